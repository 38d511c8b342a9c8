"""Matching tokens of two sets, and merging along the matches.

    match      each source finds the target whose rows point most nearly its own way
    owner      int64 [N]: the place of the token that a token goes into; its own where it stays
    members    float32 [K,N]: 1 where a token goes into a kept one, itself included
    merged     [K,D]: the weighted mean of a kept token's members, and the sum of their weights

A mean is a product with [K,N] shares that sum to 1, so tokens near the largest number do not
overflow, and one that stands alone is itself, bit for bit. Nothing is scattered.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.tokens.view import View

__all__ = ["match", "mean_keys", "members", "merged", "remaining", "slots"]


def mean_keys(view: View, back: int = 1) -> ir.Value:
    """[N,head_dim]: each token's key in the last attention before the site, mean over heads."""
    seen = view.attention(back)
    return view.build("ReduceMean", view.image_rows(seen.k, 1), view.build.const([0]), keepdims=0)


def match(
    build: GraphBuilder, sources: ir.Value, targets: ir.Value, rank: int = 2
) -> tuple[ir.Value, ir.Value]:
    """(likeness [...,S], place among the targets int64 [...,S]) of each source's best target.

    sources, targets: rows of length 1, [...,S,d] and [...,T,d] of `rank` dimensions. Equal
    likeness goes to the lower place.
    """
    turned = build("Transpose", targets, perm=[*range(rank - 2), rank - 1, rank - 2])
    near = build("MatMul", sources, turned)
    best = build("ReduceMax", near, build.const([rank - 1]), keepdims=0)
    return best, build("ArgMax", near, axis=rank - 1, keepdims=0)


def remaining(build: GraphBuilder, gone: ir.Value, count: int, left: int) -> ir.Value:
    """Places int64 [left], ascending, of those that `gone` (float [N], 1 or 0) does not mark."""
    behind = build("Mul", build("Cast", gone, to=ir.DataType.INT64.value), build.const(count))
    order = build("Add", behind, build.const(np.arange(count)))
    return build("TopK", order, build.const([left]), outputs=2, axis=0, largest=0)[0]


def members(build: GraphBuilder, index: ir.Value, owner: ir.Value) -> ir.Value:
    """float32 [K,N]: which tokens (owner: int64 [N]) go into which kept one (index: int64 [K])."""
    same = build("Equal", build("Unsqueeze", index, build.const([1])), owner)
    return build("Cast", same, to=ir.DataType.FLOAT.value)


def slots(build: GraphBuilder, member: ir.Value) -> ir.Value:
    """int64 [N]: which of the K slots each token went into; every token must be in one."""
    return build("ArgMax", member, axis=0, keepdims=0)


def merged(
    build: GraphBuilder, member: ir.Value, weight: ir.Value, tokens: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """(means [K,D] by positive weights [N], sums of the weights [K])."""
    share = build("Mul", member, weight)
    total = build("ReduceSum", share, build.const([1]), keepdims=1)
    mean = build("MatMul", build("Div", share, total), tokens)
    return mean, build("Squeeze", total, build.const([1]))
