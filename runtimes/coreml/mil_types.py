"""Types of MIL, and how a value of each is held while a program runs.

    fp16, fp32               float32; a fp16 value lies on the grid of float16
    int8 ... int32, uint4..  int32
    bool                     bool

So every sum is made in float32 and rounded once, when it is stored: fp16 storage with fp32
accumulators, as Core ML's CPU and Neural Engine compute. Numbers are those of MIL.proto:
https://github.com/apple/coremltools/blob/main/mlmodel/format/MIL.proto
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MIL_TYPES", "MilType", "TensorType", "Unreadable", "tensor_type"]

MOST_ELEMENTS = 2**30  # of one tensor; an embedding of 256,000 words is one of the largest
MOST_RANK = 16


class Unreadable(Exception):
    """Something in a program that is not supported or not possible; the text says what."""


@dataclass(frozen=True)
class MilType:
    """name: as MIL writes it. kind: float, int, bool, string. numpy: outside, None below 8 bit."""

    name: str
    kind: str
    bits: int
    low: int = 0
    high: int = 0

    @property
    def numpy(self) -> np.dtype | None:
        by_name = {"fp16": np.float16, "fp32": np.float32, "bool": np.bool_}
        if self.kind == "int" and self.bits >= 8:
            return np.dtype(self.name)
        return np.dtype(by_name[self.name]) if self.name in by_name else None


def _integers() -> dict[int, MilType]:
    signed = {21: 8, 22: 16, 23: 32, 25: 4}
    unsigned = {31: 8, 32: 16, 33: 32, 35: 4, 36: 2, 37: 1, 38: 6, 39: 3}
    return {
        **{n: MilType(f"int{b}", "int", b, -(2 ** (b - 1)), 2 ** (b - 1) - 1)
           for n, b in signed.items()},
        **{n: MilType(f"uint{b}", "int", b, 0, 2**b - 1) for n, b in unsigned.items()},
    }  # fmt: skip


#: by the number that MIL.proto gives a type; what is not here is refused by number
MIL_TYPES: dict[int, MilType] = {
    1: MilType("bool", "bool", 8),
    2: MilType("string", "string", 0),
    10: MilType("fp16", "float", 16),
    11: MilType("fp32", "float", 32),
    **_integers(),
}


@dataclass(frozen=True)
class TensorType:
    """A shape has None for a size that only a run knows."""

    dtype: MilType
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join('?' if n is None else str(n) for n in self.shape)}]"

    @property
    def elements(self) -> int | None:
        """None where a size is not static."""
        total = 1
        for size in self.shape:
            if size is None:
                return None
            total *= size
        return total


def tensor_type(proto: Any) -> TensorType:
    """Of a ValueType that is a tensor. Raises Unreadable."""
    if (kind := proto.WhichOneof("type")) != "tensorType":
        raise Unreadable(f"a value of kind {kind}")
    told = proto.tensorType
    if told.dataType not in MIL_TYPES:
        raise Unreadable(f"data type {told.dataType} of MIL.proto")
    if told.rank != len(told.dimensions) or told.rank > MOST_RANK:
        raise Unreadable(f"rank {told.rank} with {len(told.dimensions)} sizes")
    found = TensorType(MIL_TYPES[told.dataType], tuple(_size(d) for d in told.dimensions))
    if (found.elements or 0) > MOST_ELEMENTS:
        raise Unreadable(f"a tensor {found} of more than {MOST_ELEMENTS} elements")
    return found


def _size(dimension: Any) -> int | None:
    if dimension.WhichOneof("dimension") == "constant":
        return int(dimension.constant.size)
    if dimension.unknown.variadic:
        raise Unreadable("a tensor of any rank")
    return None
