"""What an op computed, as the program stores it: its shape and kind checked, its numbers rounded.

A result that is not what the program declares means that the op is misunderstood here, or that the
program is broken; either way nothing after it would be right.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.constants import HELD
from edgevlm.runtimes.coreml.mil_types import TensorType

__all__ = ["Rounding", "round_to", "stored"]

#: stored: every value in the program's type. float32: none rounded, to tell error from rounding
Rounding = Literal["stored", "float32"]


def stored(value: Tensor, type_: TensorType | None, rounding: Rounding) -> Tensor:
    """Raises TypeError, ValueError, OverflowError."""
    if type_ is None:
        raise TypeError("an output that is no tensor")
    sizes = tuple(value.shape)
    if len(sizes) != len(type_.shape) or any(
        want not in (None, size) for want, size in zip(type_.shape, sizes, strict=True)
    ):
        raise ValueError(f"it gives {list(sizes)} and the program says {type_}")
    if value.dtype != HELD[type_.dtype.kind]:
        raise TypeError(f"it gives {value.dtype} and the program says {type_}")
    return round_to(value, type_, rounding)


def round_to(value: Tensor, type_: TensorType, rounding: Rounding) -> Tensor:
    """Onto the grid of the type. Integers have to be on it: OverflowError."""
    dtype = type_.dtype
    if dtype.name == "fp16" and rounding == "stored":
        return value.to(torch.float16).to(torch.float32)
    if dtype.kind == "int" and dtype.bits < 32 and value.numel():
        low, high = int(value.min()), int(value.max())
        if low < dtype.low or high > dtype.high:
            raise OverflowError(f"{low} to {high} in {type_}")
    return value
