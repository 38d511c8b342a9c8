"""One Attention node over merged rows in place of one over all rows.

q [1,H,L,d], or [1,L,H x d] with the head count as an attribute; k and v alike, with fewer heads
where heads share keys (a merged key then counts alike in each of them)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.tokens.forms import Form
from edgevlm.passes.tokens.key_bias import sizes_told
from edgevlm.passes.tokens.pieces.block_plan import BlockPlan
from edgevlm.passes.tokens.pieces.headwise import HeadwiseMerge

__all__ = ["merged_attention"]

MASK = 3  # input of Attention
COUNTS = ("q_num_heads", "kv_num_heads")


def merged_attention(
    build: GraphBuilder,
    form: Form,
    node: ir.Node,
    queries: BlockPlan | None,
    keys: BlockPlan | None,
    proportional: bool,
) -> ir.Node:
    """The new node; what read the old one reads its rows, copied back. None: that side stays."""
    counts = [node.attributes.get_int(name, 0) for name in (COUNTS[0], COUNTS[1], COUNTS[1])]
    q, k, v = (_by_head(build, node.inputs[i], n) for i, n in enumerate(counts))
    (heads, rows, width), wide = (int(d) for d in q.shape[1:]), int(v.shape[-1])
    group = heads // int(k.shape[1])
    told = sizes_told(build, node)
    mask = node.inputs[MASK] if len(node.inputs) > MASK else None
    undo = None
    if queries is not None:
        undo, rows = HeadwiseMerge(build, form, queries, q), queries.left
        q = undo.rows(q)
    if keys is not None:
        merge = HeadwiseMerge(build, form, keys, k, told)
        k, v = merge.rows(k), merge.rows(v)
        count = proportional or told is not None  # what merged before counts in any case
        mask = _bias(build, merge.sizes(), heads, group, rows, keys.left) if count else None
    elif mask is not None:  # its rows are all the same
        mask = build("Slice", mask, *(build.const([n]) for n in (0, rows, 2)))
    kept = {name: a.value for name, a in node.attributes.items() if name not in COUNTS}
    kept["scale"] = node.attributes.get_float("scale", 0.0) or width**-0.5
    y = build("Attention", q, k, v, *([] if mask is None else [mask]), **kept)
    made = y.producer()
    if undo is not None:
        y = undo.unmerged(y, wide)
    _instead(build, node, y, wide * heads)
    return made


def _by_head(build: GraphBuilder, value: ir.Value, count: int) -> ir.Value:
    """[1,H,L,d]; count: heads of a value [1,L,H x d]."""
    shape = [int(d) for d in value.shape]
    if len(shape) == 4:
        return value
    split = [1, shape[1], count, shape[2] // count]
    made = build("Transpose", build("Reshape", value, build.const(split)), perm=[0, 2, 1, 3])
    made.shape, made.dtype = ir.Shape([split[i] for i in (0, 2, 1, 3)]), value.dtype
    return made


def _bias(
    build: GraphBuilder, sizes: ir.Value, heads: int, group: int, rows: int, keys: int
) -> ir.Value:
    """[1,heads,rows,keys] of sizes [heads / group,keys]; ONNX Runtime wants all rows stated."""
    log = build("Log", sizes)
    if group > 1:
        log = build("Gather", log, build.const(np.arange(heads) // group))
    log = build("Reshape", log, build.const([1, heads, 1, keys]))
    return build("Expand", log, build.const([1, heads, rows, keys]))


def _instead(build: GraphBuilder, node: ir.Node, y: ir.Value, channels: int) -> None:
    """What read `node` reads y [1,H,L,d], in the form that `node` had."""
    old = node.outputs[0]
    if len(old.shape) == 3:
        turned = build("Transpose", y, perm=[0, 2, 1, 3])
        y = build("Reshape", turned, build.const([1, int(old.shape[1]), channels]))
    y.shape, y.dtype = old.shape, old.dtype
    for user, position in list(old.uses()):
        user.replace_input_with(position, y)
