"""Whole numbers bit by bit, and what a division leaves."""

from __future__ import annotations

import torch

from edgevlm.compiler.to_torch.ops.node import Maker, OpNode, Refused, Run, plain

__all__ = ["OPS"]


def bit_shift(node: OpNode) -> Run:
    """Of unsigned numbers; torch computes with those of eight bits only."""
    if node.dtype(0) is None or node.dtype(0).name != "UINT8":
        kind = node.dtype(0).name if node.dtype(0) is not None else "a type that is not known"
        raise Refused(f"it shifts {kind}, and of unsigned numbers torch computes with UINT8 only")
    left = node.get("direction") == "LEFT"
    return torch.bitwise_left_shift if left else torch.bitwise_right_shift


def mod(node: OpNode) -> Run:
    """With the sign of the divisor, or of the dividend where `fmod` says so, as C has it."""
    return torch.fmod if node.get("fmod", 0) else torch.remainder


OPS: dict[str, Maker] = {
    "BitShift": bit_shift,
    "BitwiseAnd": plain(torch.bitwise_and),
    "BitwiseNot": plain(torch.bitwise_not),
    "BitwiseOr": plain(torch.bitwise_or),
    "BitwiseXor": plain(torch.bitwise_xor),
    "Mod": mod,
}
