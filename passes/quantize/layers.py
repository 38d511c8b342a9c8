"""The weights of a graph that may be stored coarser, and why the others may not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

import numpy as np
import onnx_ir as ir

__all__ = ["Layer", "why_not"]

#: op -> (weight input, output-channel axis); Gemm's axis depends on transB
CHANNEL = {
    "MatMul": (1, 1),
    "Gemm": (1, 1),
    "Conv": (1, 0),
    "ConvTranspose": (1, 1),
    "Gather": (0, 0),
}
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Layer:
    """A node and its weight, seen as rows [n,m]: n output channels of m inputs each."""

    node: ir.Node
    weight: ir.Value

    @classmethod
    def of(cls, node: ir.Node) -> Layer:
        """Of a node that `why_not` says nothing against."""
        return cls(node, node.inputs[CHANNEL[node.op_type][0]])

    @property
    def position(self) -> int:
        """Which input the weight is."""
        return CHANNEL[self.node.op_type][0]

    @property
    def axis(self) -> int:
        """Of the output channels in the weight."""
        transposed = self.node.op_type == "Gemm" and self.node.attributes.get_int("transB", 0)
        return 0 if transposed else CHANNEL[self.node.op_type][1]

    @property
    def kind(self) -> Literal["product", "convolution", "depthwise", "table"]:
        if self.node.op_type == "Gather":
            return "table"
        if self.node.op_type in CONVOLUTIONS:
            one = self.weight.shape[1] == 1 and self.node.attributes.get_int("group", 1) > 1
            return "depthwise" if one else "convolution"
        return "product"

    @property
    def takes_rows(self) -> bool:
        """Whether X [...,m] multiplies the rows as it is: X W^T."""
        transposed = self.node.op_type == "Gemm" and self.node.attributes.get_int("transA", 0)
        return self.kind == "product" and not transposed

    def rows(self) -> np.ndarray:
        """The weight as [n,m]."""
        array = self.weight.const_value.numpy()
        return np.moveaxis(array, self.axis, 0).reshape(array.shape[self.axis], -1)

    def unrolled(self, rows: np.ndarray) -> np.ndarray:
        """[n,m] in the shape of the weight."""
        shape = list(self.weight.shape)
        first = [shape.pop(self.axis), *shape]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(first), 0, self.axis))

    @cached_property
    def key(self) -> str:
        """The same wherever these numbers are multiplied, in prefill and in decode."""
        rows = np.ascontiguousarray(self.rows())
        return f"{rows.shape} {hashlib.sha256(rows).hexdigest()}"

    def is_called(self, role: str, pattern: str) -> bool:
        """Whether PART/NAME, the name of the node or of the weight, matches a glob."""
        names = (f"{role}/{self.node.name}", f"{role}/{self.weight.name}")
        return any(fnmatchcase(name, pattern) for name in names)


def why_not(node: ir.Node, min_elements: int, embeddings: bool) -> str | None:
    """None: it has a weight to quantise. A sentence: leave it, and say so. Empty: it has none."""
    if node.op_type not in CHANNEL:
        return ""
    weight = node.inputs[CHANNEL[node.op_type][0]]
    if weight.const_value is None:
        return _computed(node, weight)
    rank = len(weight.shape)
    if not weight.dtype.is_floating_point() or rank < 2:
        return ""
    if weight.dtype != ir.DataType.FLOAT:
        return f"{weight.name} is {weight.dtype.name}"
    if node.op_type in ("MatMul", "Gather") and rank != 2:
        return f"{weight.name} has rank {rank}"
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) > 1:
        return f"{weight.name} has the channels of several groups in one column"
    if node.op_type == "Gather" and (why := _table(node, embeddings)):
        return why
    if weight.const_value.size < min_elements:
        return f"{weight.name} has {weight.const_value.size} elements, under min_elements"
    if not np.isfinite(weight.const_value.numpy()).all():
        return f"{weight.name} is not finite"
    return None


def _table(node: ir.Node, embeddings: bool) -> str | None:
    """Why the rows of a table cannot be looked up as integers."""
    if not embeddings:
        return "embeddings = false"
    if node.attributes.get_int("axis", 0) != 0:
        return f"{node.inputs[0].name} is read along axis 1"
    ids = list(node.inputs[1].shape)
    if not ids or any(d != 1 for d in ids[:-1]):
        return f"{node.inputs[0].name} is read by a {'batch' if ids else 'scalar'}"
    return None


def _computed(node: ir.Node, weight: ir.Value) -> str:
    if weight.producer() is not None and weight.producer().op_type == "DequantizeLinear":
        return ""
    left = node.inputs[0]
    if node.op_type in ("MatMul", "Gemm") and left.const_value is not None and len(left.shape) > 1:
        return f"{left.name} is on the left"
    return f"{weight.name} is computed" if node.op_type in ("Gemm", *CONVOLUTIONS) else ""
