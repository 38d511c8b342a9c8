"""Rounding of activations to integers of eight bits and back: W8A8."""

from __future__ import annotations

import torch
from torch import Tensor

from edgevlm.runtimes.coreml.ops.forms import Handler, Refused

__all__ = ["OPS", "spread"]

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def spread(row: Tensor, like: Tensor, axis: int | None) -> Tensor:
    """A scale or zero point, a number or one for each place of the axis, to broadcast."""
    if row.dim() == 0:
        return row
    if axis is None or row.dim() != 1 or row.shape[0] != like.shape[axis]:
        raise Refused(f"scales {list(row.shape)} along axis {axis} of {list(like.shape)}")
    return row.reshape([-1 if i == axis % like.dim() else 1 for i in range(like.dim())])


def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even."""
    if output_dtype not in RANGES:
        raise Refused(f"rounding to {output_dtype!r:.40}")
    y = torch.round(input / spread(scale, input, axis))
    if zero_point is not None:
        y = y + spread(zero_point, input, axis)
    if bool(y.isnan().any()):
        raise OverflowError("something that is no number, which has no integer")
    return y.clamp(*RANGES[output_dtype]).to(torch.int32)


def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """scale * (input - zero_point)."""
    y = input if zero_point is None else input - spread(zero_point, input, axis)
    return y.to(scale.dtype) * spread(scale, input, axis)


OPS: dict[str, Handler] = {"dequantize": dequantize, "quantize": quantize}
