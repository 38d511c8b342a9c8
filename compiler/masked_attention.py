"""Attention that compiler/attention.py leaves: masks that are computed, scores that are capped.

    q x scale -> x k' -> cap -> + causal, + mask -> Softmax -> x rows that look at anything -> x v

A bool mask that is computed may let a row look at nothing; ONNX wants zeros there, and the softmax
of what is all alike would give a mean. A float mask is added as it is. Heads that share keys are
rows of one product. https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["NEVER", "masked_attention"]

#: added to the score of what must not be looked at, or in its place; its exponential is zero,
#: float16 has it, and no sum with a score is infinite
NEVER = -32768.0
MASK = 3


def masked_attention(build: GraphBuilder, node: ir.Node, never: float = NEVER) -> ir.Value | None:
    """None for caches inside and for outputs beside the first, which parts do not have."""
    more_in = any(v is not None for v in node.inputs[MASK + 1 :])
    more_out = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    if more_in or more_out:
        return None
    q, k, v = node.inputs[:MASK]
    flat = len(q.shape) == 3
    if flat:
        counts = [node.attributes.get_int(name, 0) for name in ("q_num_heads", "kv_num_heads")]
        q, k, v = (_heads(build, x, n) for x, n in ((q, counts[0]), (k, counts[1]), (v, counts[1])))
    (batch, heads, rows, width), keys = _sizes(q), _sizes(k)
    few, seen, out = keys[1], keys[2], _sizes(v)[3]
    kind = q.dtype.numpy()
    scale = node.attributes.get_float("scale", 0.0) or width**-0.5
    q = build("Mul", q, build.const(scale, kind))
    if heads > few:
        q = build("Reshape", q, build.const([batch, few, heads // few * rows, width]))
    scores = build("MatMul", q, build("Transpose", k, perm=[0, 1, 3, 2]))
    if heads > few:
        scores = build("Reshape", scores, build.const([batch, heads, rows, seen]))
    if cap := node.attributes.get_float("softcap", 0.0):
        by = build.const(cap, kind)
        scores = build("Mul", build("Tanh", build("Div", scores, by)), by)
    mask = node.inputs[MASK] if len(node.inputs) > MASK else None
    looks = mask if mask is not None and mask.dtype == ir.DataType.BOOL else None
    if node.attributes.get_int("is_causal", 0):
        earlier = build.const(np.arange(rows)[:, None] >= np.arange(seen)[None], np.bool_)
        looks = earlier if looks is None else build("And", looks, earlier)
    if looks is not None:
        scores = build("Where", looks, scores, build.const(never, kind))
    if mask is not None and mask.dtype != ir.DataType.BOOL:
        if mask.dtype != q.dtype:
            mask = build("Cast", mask, to=int(node.inputs[0].dtype))
        scores = build("Add", scores, mask)
    weights = build("Softmax", scores, axis=-1)
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        any_ = build("ReduceMax", build("Cast", looks, to=int(node.inputs[0].dtype)),
                     build.const([-1]), keepdims=1)  # fmt: skip
        weights = build("Mul", weights, any_)
    if heads > few:
        weights = build("Reshape", weights, build.const([batch, few, heads // few * rows, seen]))
    y = build("MatMul", weights, v)
    if heads > few:
        y = build("Reshape", y, build.const([batch, heads, rows, out]))
    if not flat:
        return y
    y = build("Transpose", y, perm=[0, 2, 1, 3])
    return build("Reshape", y, build.const([batch, rows, heads * out]))


def _heads(build: GraphBuilder, x: ir.Value, count: int) -> ir.Value:
    """[B,S,H*d] -> [B,H,S,d]."""
    batch, rows, width = (int(d) for d in x.shape)
    apart = build("Reshape", x, build.const([batch, rows, count, width // count]))
    made = build("Transpose", apart, perm=[0, 2, 1, 3])
    made.shape, made.dtype = ir.Shape([batch, count, rows, width // count]), x.dtype
    return made


def _sizes(value: ir.Value) -> list[int]:
    return [int(d) for d in value.shape]
