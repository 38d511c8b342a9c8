"""Rounding to integers and back; a scale a tensor, a channel or a block. Gradients end here."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor

from edgevlm.compiler.to_torch.dtypes import DTYPES
from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run

__all__ = ["OPS"]

RANGES = {
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(2**15), 2**15 - 1),
}


def _spread(scale: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point so that it broadcasts with x."""
    if block:
        return scale.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def quantize(node: OpNode) -> Run:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    node.refuse(precision=0)
    to = node.dtype(2) or ir.DataType(node.get("output_dtype", 0) or ir.DataType.UINT8)
    if to not in RANGES:
        raise Refused(f"rounding to {to.name}")
    low, high = RANGES[to]

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        y = torch.round(x / _spread(scale, x, axis, block))
        if zero is not None:
            y = y + _spread(zero, x, axis, block)
        return y.clamp(low, high).to(DTYPES[to])

    return run


def dequantize(node: OpNode) -> Run:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    node.refuse(output_dtype=0)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        y = x.to(scale.dtype)
        if zero is not None:
            y = y - _spread(zero, x, axis, block)
        return y * _spread(scale, x, axis, block)

    return run


def quantize_dynamically(node: OpNode) -> Run:
    """uint8, by the range of what comes; zero is always in the range."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = (high - low) / 255
        zero = torch.round((-low / scale).clamp(0, 255))
        y = (torch.round(x / scale) + zero).clamp(0, 255)
        return y.to(torch.uint8), scale, zero.to(torch.uint8)

    return run


OPS: dict[str, Maker] = {
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_dynamically,
    "QuantizeLinear": quantize,
}
