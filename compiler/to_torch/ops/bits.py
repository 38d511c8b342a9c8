"""Whole numbers bit by bit, and what a division leaves."""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run, plain
from edgevlm.compiler.to_torch.ops.stored import beside

__all__ = ["OPS"]


def bit_shift(node: OpNode) -> Run:
    """Of unsigned numbers; torch computes with those of eight bits only."""
    kind = node.dtype(0)
    if kind is not ir.DataType.UINT8:
        name = "a type that is not known" if kind is None else kind.name
        raise Refused(f"it shifts {name}, and of unsigned numbers torch computes with UINT8 only")
    left = node.get("direction") == "LEFT"
    if (stored := node.peek(1)) is not None:  # by arithmetic, which every tool has
        node.read.add(1)
        factors = torch.pow(2, stored.int().clamp(max=8)).int()
        return lambda x, _: _shifted(x.int(), beside(factors, x), left).to(torch.uint8)
    return torch.bitwise_left_shift if left else torch.bitwise_right_shift


def _shifted(x: Tensor, factors: Tensor, left: bool) -> Tensor:
    """Bytes, as wider numbers: what is moved out at either end is gone."""
    if left:
        bytes_only = torch.full_like(factors, 256)  # a tensor: Core AI takes no number here
        return torch.remainder(x * factors, bytes_only)
    return torch.div(x, factors, rounding_mode="floor")


def bitwise_not(node: OpNode) -> Run:
    """By arithmetic: Core AI gives zeros for torch's own op of bytes, and Core ML has none."""
    ones = 255 if node.dtype(0) is ir.DataType.UINT8 else -1
    return lambda x: ones - x


def _as_in_c(x: Tensor, y: Tensor) -> Tensor:
    """torch.fmod, to the bit, by the remainder that all tools have."""
    left = torch.remainder(torch.abs(x), torch.abs(y))
    return torch.where(x < 0, -left, left)


def _with_divisor(x: Tensor, y: Tensor) -> Tensor:
    """torch.remainder of whole numbers; ExecuTorch's own gives it the sign of the dividend."""
    return x - torch.div(x, y, rounding_mode="floor") * y


def mod(node: OpNode) -> Run:
    """With the sign of the divisor, or of the dividend where `fmod` says so, as C has it."""
    if node.get("fmod", 0):
        return _as_in_c
    if node.dtype(0) is not None and node.dtype(0).is_floating_point():
        raise Refused("of real numbers, and without fmod: the specification has no such form")
    return _with_divisor


OPS: dict[str, Maker] = {
    "BitShift": bit_shift,
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseNot": bitwise_not,
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "Mod": mod,
}
