"""Attention and rotary positions: the two ops that say what their dimensions mean.

ONNX Attention (opset 23) takes [batch, head, token, head_dim], or [batch, token, head x head_dim]
with the head counts as attributes. With grouped queries, query heads are kv heads x group, so
removing a kv head removes the query heads that read it.
https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, fresh_term, label, pin, size_of
from edgevlm.compiler.axes.equations import concatenate, section, unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, meet, who

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def attention(found: Analysis, node: ir.Node) -> list[Dims]:
    name = who(node)
    raw = found.input(node, 0)
    q = _heads(found, node, raw, "q_num_heads")
    k = _heads(found, node, found.input(node, 1), "kv_num_heads")
    v = _heads(found, node, found.input(node, 2), "kv_num_heads")
    batch = meet(node, [[d[0]] for d in (q, k, v)])[0]
    unify(k[1], v[1], name)
    unify(k[2], v[2], name)
    unify(q[3], k[3], name)
    _group(q[1], k[1], name)
    _keep_scale(found, node, q[3])

    past_k, past_v = found.input(node, 4), found.input(node, 5)
    total = k[2]
    if past_k is not None:
        for past, new in ((past_k, k), (past_v, v)):
            unify(past[1], new[1], name)
            unify(past[3], new[3], name)
        meet(node, [[past_k[0]], [past_v[0]], [batch]])
        unify(past_k[2], past_v[2], name)
        label(past_k[2], "kv")
        total = concatenate([past_k[2], k[2]], name)
    filled = found.input(node, 6)  # opset 24: rows that count, one number for each of the batch
    if filled is not None:
        meet(node, [[batch], filled])
    mask = found.input(node, 3)
    if mask is not None:
        meet(node, [[batch, q[1], q[2], total], mask])

    for term, word in ((batch, "batch"), (q[1], "head"), (q[2], "token"), (total, "kv")):
        label(term, word)
    for dims in (q, k, v):
        label(dims[3], "head_dim")
    y = [batch, q[1], q[2], v[3]]
    if len(raw) == 3:
        y = [batch, q[2], (*q[1], *v[3])]
    present = [[batch, k[1], total, k[3]], [batch, v[1], total, v[3]]]
    return [y, *present, [batch, q[1], q[2], total]][: len(node.outputs)]


def _heads(found: Analysis, node: ir.Node, x: Dims, count: str) -> Dims:
    """Dimensions as [batch, head, token, head_dim] for either input form."""
    if len(x) == 4:
        return list(x)
    heads, size, name = attribute(node, count, 0), size_of(x[2]), who(node)
    if not heads or size % heads:
        raise fail(name, f"{size} channels do not split into {heads} heads ({count})")
    head, width = fresh_term(heads, name), fresh_term(size // heads, name)
    unify(x[2], (*head, *width), name)
    found.derive_attribute(node, count, lambda: size_of(head))
    return [x[0], head, x[1], width]


def _group(queries: Term, keys: Term, name: str) -> None:
    """Query heads = kv heads x group, in that order."""
    if size_of(queries) % size_of(keys):
        raise fail(name, f"{size_of(queries)} query heads do not share {size_of(keys)} kv heads")
    group = fresh_term(size_of(queries) // size_of(keys), name)
    unify(queries, (*keys, *group), name)
    if size_of(keys) > 1:
        label(group, "group")


def _keep_scale(found: Analysis, node: ir.Node, width: Term) -> None:
    """Attention scales by the width it sees; a narrower head keeps the scale it was made for."""
    if attribute(node, "scale") is None:
        before = size_of(width)
        found.derive_attribute(
            node, "scale", lambda: None if size_of(width) == before else before**-0.5
        )


def rotary(found: Analysis, node: ir.Node) -> list[Dims]:
    """cos and sin hold one entry for each rotated pair; a pair is (i, i + half) or (2i, 2i + 1)."""
    name = who(node)
    x, cos, sin = (found.input(node, i) for i in range(3))
    unify(cos[-1], sin[-1], name)
    y = _heads(found, node, x, "num_heads")
    positions = found.input(node, 3)
    if positions is None:
        meet(node, [[y[0], y[2]], cos[:-1]])
        meet(node, [[y[0], y[2]], sin[:-1]])
    else:
        meet(node, [[y[0], y[2]], positions])
        unify(cos[0], sin[0], name)
    given = attribute(node, "rotary_embedding_dim", 0)
    part = section(y[3], 0, given or size_of(y[3]), name)
    if given:
        found.derive_attribute(node, "rotary_embedding_dim", lambda: size_of(part))
    if attribute(node, "interleaved", 0):
        pair = fresh_term(2, name)
        pin(pair, name, "it rotates pairs")
        unify(part, (*cos[-1], *pair), name)
    else:
        unify(part, concatenate([cos[-1], cos[-1]], name), name)
    label(y[3], "head_dim")
    label(y[2], "token")
    return [list(x)]


RULES: dict[str, Rule] = {"Attention": attention, "RotaryEmbedding": rotary}
