"""Attention written out becomes one node.

    before: q, k^T -> MatMul -> x scale -> + mask -> Softmax -> MatMul with v
    after:  Attention(q, k, v, mask)                         opset 23, [batch, heads, rows, width]

Paper: 1706.03762. The scale may stand on q, on k, on both or behind the product; k may come
transposed in one step with its heads. Three dimensions [heads, rows, width] get a batch of one.
Several masks are summed up.
Refused, with a note: a softmax along other than the last axis, a mask that is scaled or chosen with
Where or makes more rows or heads, heads that broadcast, other than 3 or 4 dimensions, a scale that
is not positive, other types than float32, values that somebody else reads as well.
Expected effect: exact to rounding; the N x N matrix is one kernel's own business, and passes
that look for blocks find one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.cleanup.fuse_pattern import Found, Fusion, operands, produced, scalar

__all__ = ["FuseAttention"]


class FuseAttention(Fusion):
    name = "fuse-attention"
    summary = "attention written out becomes one node"
    paper = "1706.03762"
    anchors = frozenset({"Softmax"})
    becomes = "Attention"

    def match(self, anchor: ir.Node) -> Found | str | None:
        mixed = next(
            (n for n, i in anchor.outputs[0].uses() if n.op_type == "MatMul" and not i), None
        )
        if mixed is None:
            return None
        scores = _Scores([anchor, mixed])
        reason = scores.climb(anchor.inputs[0])
        if reason is not None:
            return reason or None
        q, k, v = scores.peel(scores.product.inputs[0]), scores.product.inputs[1], mixed.inputs[1]
        k, turn = scores.turned(scores.peel(k))
        dims = [[int(d) for d in value.shape] for value in (scores.product.inputs[0], k, v)]
        rank, logits = len(dims[0]), [int(d) for d in scores.product.outputs[0].shape]
        if attribute(anchor, "axis", -1) not in (-1, rank - 1):
            return f"its softmax runs along axis {attribute(anchor, 'axis', -1)}, not the last"
        if rank not in (3, 4) or any(len(d) != rank for d in dims) or len(q.shape) != rank:
            return f"it works on {', '.join(str(len(d)) for d in dims)} dimensions, not 3 or 4"
        lead = [int(k.shape[p]) for p in turn][:-2]
        if not dims[0][:-2] == lead == dims[2][:-2]:
            return f"its heads broadcast: {dims[0][:-2]}, {lead}, {dims[2][:-2]}"
        if q.dtype is not ir.DataType.FLOAT:
            return f"it works in {q.dtype.name.lower()}"
        if not 0 < scores.scale < math.inf:
            return f"its scale is {scores.scale:.6g}"
        masks = [[int(d) for d in mask.shape] for mask in scores.masks]
        masked = list(np.broadcast_shapes(logits, *map(tuple, masks)))
        if masked != logits:
            return f"its mask makes {logits} into {masked}"

        def make(build: GraphBuilder) -> ir.Value:
            turned = k if turn == list(range(rank)) else build("Transpose", k, perm=turn)
            parts = [_four(build, value, rank) for value in (q, turned, v)]
            if masks:
                parts.append(_mask(build, scores.masks, *logits[-2:]))
            out = build("Attention", *parts, scale=float(scores.scale))
            return out if rank == 4 else build("Squeeze", out, build.const([0]))

        return Found(mixed.outputs[0], scores.inner, make)


@dataclass
class _Scores:
    """What stands in front of the softmax, read from behind."""

    inner: list[ir.Node]
    scale: float = 1.0
    masks: list[ir.Value] = field(default_factory=list)
    product: ir.Node | None = None

    def climb(self, value: ir.Value) -> str | None:
        """From the softmax up to q k^T; a reason where that fails, "" where it is none."""
        for _ in range(8):
            value = self.peel(value)
            node = value.producer()
            if node is None:
                return ""
            if node.op_type == "MatMul":
                self.product = node
                self.inner.append(node)
                return None
            if node.op_type == "Where":
                return "its mask is chosen with Where, not added"
            if node.op_type != "Add":
                return ""
            logits = [v for v in node.inputs if _is_product(v)]
            if not logits:
                return ""
            if len(logits) == 2:
                return "both sides of its sum are products, either may be the mask"
            if self.scale != 1.0:
                return "its mask is scaled with the logits"
            value = logits[0]
            self.masks.append(operands(node, value))
            self.inner.append(node)
        return ""

    def peel(self, value: ir.Value) -> ir.Value:
        """A value without the constants that it is multiplied by; they join the scale."""
        for _ in range(8):
            node = produced(value, "Mul", "Div")
            if node is None:
                return value
            a, b = node.inputs
            number = scalar(b)
            if number is not None and node.op_type == "Div":
                number = 1 / number if number else math.nan
            elif number is None and node.op_type == "Mul":
                number, a = scalar(a), b
            if number is None or a.shape is None or len(a.shape) != len(value.shape):
                return value
            self.scale *= number
            self.inner.append(node)
            value = a
        return value

    def turned(self, value: ir.Value) -> tuple[ir.Value, list[int]]:
        """k^T -> (a value, the permutation that makes k of it); one Transpose is looked through."""
        rank = len(value.shape)
        swap = [*range(rank - 2), rank - 1, rank - 2]
        node = produced(value, "Transpose")
        if node is None:
            return value, swap
        perm = list(attribute(node, "perm", list(range(rank))[::-1]))
        self.inner.append(node)
        return self.peel(node.inputs[0]), [perm[p] for p in swap]


def _is_product(value: ir.Value) -> bool:
    """Whether a value is q k^T, but for constants and other sums."""
    for _ in range(8):
        node = value.producer()
        if node is None:
            return False
        if node.op_type == "MatMul":
            return True
        computed = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type not in ("Mul", "Div", "Add") or not computed:
            return False
        if len(computed) == 2:
            return node.op_type == "Add" and any(map(_is_product, computed))
        value = computed[0]
    return False


def _four(build: GraphBuilder, value: ir.Value, rank: int) -> ir.Value:
    return value if rank == 4 else build("Unsqueeze", value, build.const([0]))


def _mask(build: GraphBuilder, masks: list[ir.Value], rows: int, keys: int) -> ir.Value:
    """[batch, heads, rows, keys], of which the first two may be 1; runtimes want whole rows."""
    total, shape = masks[0], [int(d) for d in masks[0].shape]
    for mask in masks[1:]:
        total = build("Add", total, mask)
        shape = list(np.broadcast_shapes(shape, [int(d) for d in mask.shape]))
    four = [1] * (4 - len(shape)) + shape
    whole = [*four[:2], rows, keys]
    if total.const_value is not None:
        return build.const(
            np.broadcast_to(total.const_value.numpy().reshape(four), whole), np.float32
        )
    if len(shape) < 4:
        total = build("Reshape", total, build.const(four))
    return total if four == whole else build("Expand", total, build.const(whole))
