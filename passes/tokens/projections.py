"""What q and k of an Attention are made of, followed back from the node to their projections.

    normed -> MatMul(W) [-> Add(b)] -> Reshape, Transpose [-> norm] [-> rotary] -> Attention

A rotary embedding stands between the projection and the product q k^T, so whoever wants to compare
contents without positions, or to multiply the weights of q and k in advance, has to leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["Projection", "find_projection", "find_rotary", "unrotated"]

ROTARY = "RotaryEmbedding"
#: between a projection and Attention, each element kept: what leads back by the first input
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast", "Gather"})


@dataclass(frozen=True)
class Projection:
    """normed @ weight + bias; columns head by head."""

    weight: np.ndarray  # float32 [D, heads * head_dim]
    bias: np.ndarray  # float32 [heads * head_dim]; zeros where there is none


def find_rotary(value: ir.Value | None, origin: ir.Value) -> ir.Node | None:
    """The RotaryEmbedding nearest to Attention on the way from `origin` to its q or k."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop(0)
        node = None if value is None or value is origin else value.producer()
        if node is None or node in seen:
            continue
        if node.op_type == ROTARY:
            return node
        seen.add(node)
        waiting.extend(node.inputs)
    return None


def unrotated(build: GraphBuilder, value: ir.Value, origin: ir.Value) -> ir.Value | None:
    """q or k without rotary embeddings, on nodes of our own behind the first one left out.

    None where positions come in by another way: then something else than `origin` and constants
    takes part.
    """
    return _Unrotated(build, origin)(value)


class _Unrotated:
    def __init__(self, build: GraphBuilder, origin: ir.Value) -> None:
        self.build, self.done = build, {origin: origin}

    def __call__(self, value: ir.Value) -> ir.Value | None:
        if value not in self.done:
            self.done[value] = self._made(value)
        return self.done[value]

    def _made(self, value: ir.Value) -> ir.Value | None:
        node = value.producer()
        if value.const_value is not None:
            return value
        if node is None:
            return None
        if node.op_type == ROTARY:
            return self(node.inputs[0])
        if len(node.outputs) > 1:  # a fused projection, split: rotated behind the split
            plain = all(v is None or self(v) is v for v in node.inputs)
            return value if plain else None
        inputs = [None if v is None else self(v) for v in node.inputs]
        if any(a is not None and b is None for a, b in zip(node.inputs, inputs, strict=True)):
            return None
        if all(a is b for a, b in zip(node.inputs, inputs, strict=True)):
            return value
        made = self.build(
            node.op_type, *inputs, **{name: a.value for name, a in node.attributes.items()}
        )
        made.shape, made.dtype = value.shape, value.dtype
        return made


def find_projection(value: ir.Value, origin: ir.Value) -> Projection | None:
    """The affine map from `origin` to q or k, rotary left out; None where there is more to it.

    More is a norm on q and k, a fused or a quantised projection, and whatever is not known here.
    """
    factor, bias = 1.0, None
    for _ in range(32):
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "MatMul":
            stored = node.inputs[1].const_value
            if stored is None or not _leads_to(node.inputs[0], origin):
                return None
            weight = np.asarray(stored.numpy(), np.float32) * np.float32(factor)
            bias = np.zeros(weight.shape[-1]) if bias is None else bias.reshape(-1)
            if weight.ndim != 2 or bias.size != weight.shape[1]:
                return None
            return Projection(weight, bias.astype(np.float32))
        stored = [v for v in node.inputs if v is not None and v.const_value is not None]
        varying = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type in MOVES | {ROTARY}:
            value = node.inputs[0]
        elif len(stored) != 1 or len(varying) != 1:
            return None
        elif node.op_type == "Add" and bias is None:
            bias, value = stored[0].const_value.numpy() * factor, varying[0]
        elif node.op_type in ("Mul", "Div") and stored[0].const_value.size == 1:
            by = float(stored[0].const_value.numpy().reshape(-1)[0])
            if node.op_type == "Div" and varying[0] is not node.inputs[0]:
                return None
            factor, value = factor * by if node.op_type == "Mul" else factor / by, varying[0]
        else:
            return None
    return None


def _leads_to(value: ir.Value, origin: ir.Value) -> bool:
    """Back by what moves rows only; a row taken early is still a row of it."""
    while value is not origin:
        node = value.producer()
        if node is None or node.op_type not in MOVES:
            return False
        value = node.inputs[0]
    return True
