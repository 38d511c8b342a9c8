"""Attention head by head, and the rotation in front of it, with channels first.

    q_i [1,d,1,S]   k_j [1,T,1,d]   w = softmax over keys of k_j q_i [1,T,1,S]   v_j w [1,d,1,S]

Both products are `bkhc,bchq->bkhq`, the one Einsum that Core ML has (as nchw,nwhu->nchu); keys are
turned once, nothing else is. Heads that share keys (j = i / g) read the same piece of them.
"Deploying Transformers on the Apple Neural Engine", principles 1 to 3:
https://machinelearning.apple.com/research/neural-engine-transformers
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.masked_attention import NEVER
from edgevlm.passes.mobile.channels.walk import Line, Walk, tokens_of

__all__ = ["RULES"]

SCORES, SUMS = "bkhc,bchq->bkhq", "bchk,bkhq->bchq"


def attention(walk: Walk, node: ir.Node) -> Line | None:
    """Of queries, keys and values with channels first; masks and caches stay as they are."""
    lines = [walk.line(v, "heads") for v in node.inputs[:3]]
    if None in lines or any(v is not None for v in node.inputs[3:]):
        return None
    if attribute(node, "softcap", 0.0):
        return None
    q, k, v = lines
    bias = None
    if attribute(node, "is_causal", 0):
        if q.count != k.count:
            return None
        bias = _bias(walk, q.count, q.value.dtype)
    scale = attribute(node, "scale", 0.0) or (q.channels // q.heads) ** -0.5
    scaled = walk.made("Mul", q.value, walk.build.const(scale, q.value.dtype.numpy()))
    keys = _pieces(walk, walk.transpose(k.value, [0, 3, 2, 1]), 3, k.heads)
    values = _pieces(walk, v.value, 1, v.heads)
    found = []
    for i, query in enumerate(_pieces(walk, scaled, 1, q.heads)):
        shared = i * k.heads // q.heads
        scores = _einsum(walk, SCORES, keys[shared], query)
        if bias is not None:
            scores = walk.made("Add", scores, bias)
        found.append(_einsum(walk, SUMS, values[shared], walk.made("Softmax", scores, axis=1)))
    y = walk.build("Concat", *found, axis=1) if len(found) > 1 else found[0]
    y.shape = ir.Shape([1, q.heads * v.channels // v.heads, 1, q.count])
    y.dtype = q.value.dtype
    return Line(y, "heads", q.heads)


def _pieces(walk: Walk, value: ir.Value, axis: int, count: int) -> list[ir.Value]:
    if count == 1:
        return [value]
    made = walk.build("Split", value, outputs=count, axis=axis, num_outputs=count)
    for piece in made:
        piece.shape = ir.Shape([d // count if i == axis else d for i, d in enumerate(value.shape)])
        piece.dtype = value.dtype
    return list(made)


def _einsum(walk: Walk, equation: str, a: ir.Value, b: ir.Value) -> ir.Value:
    new = walk.build("Einsum", a, b, equation=equation)
    new.shape, new.dtype = ir.Shape([1, a.shape[1], 1, b.shape[3]]), a.dtype
    return new


def _bias(walk: Walk, count: int, kind: ir.DataType) -> ir.Value:
    """[1,keys,1,queries]: no query looks at a key behind it; once for all layers of a size."""
    if (count, kind) not in walk.biases:
        later = np.tril(np.ones((count, count), bool), -1)
        rows = np.where(later, np.float32(NEVER), np.float32(0))
        walk.biases[count, kind] = walk.build.const(rows[None, :, None, :], kind.numpy())
    return walk.biases[count, kind]


def rotary(walk: Walk, node: ir.Node) -> Line | None:
    """Halves of each head; cosines and sines [1,S,d/2] are turned once for all of them."""
    x, *angles = node.inputs
    line = walk.line(x, "heads")
    if line is None or len(angles) != 2 or attribute(node, "interleaved", 0):
        return None
    width = line.channels // line.heads
    if any(tokens_of(v) != (line.count, width // 2) for v in angles):
        return None  # positions of a table, or a part of each head
    pair = [walk.turn(v) for v in angles]
    if None in pair:
        return None
    cos, sin = (walk.reshape(turned.value, [1, 1, width // 2, line.count]) for turned in pair)
    each = walk.reshape(line.value, [1, line.heads, width, line.count])
    a, b = _pieces(walk, each, 2, 2)
    first = walk.made("Sub", walk.made("Mul", a, cos), walk.made("Mul", b, sin))
    second = walk.made("Add", walk.made("Mul", b, cos), walk.made("Mul", a, sin))
    new = walk.build("Concat", first, second, axis=2)
    new.shape, new.dtype = each.shape, each.dtype
    return dataclasses.replace(line, value=walk.reshape(new, [1, line.channels, 1, line.count]))


RULES = {"Attention": attention, "RotaryEmbedding": rotary}
