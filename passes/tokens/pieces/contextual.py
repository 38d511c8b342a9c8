"""Dominant tokens stay as they are; a few more stand for the rest (VisionZip, DUET-VLM).

    dominant     the K - C tokens of largest score
    pool         the others in raster order, or (`width`) the next width x C by score, best first
    contextual   every (pool / C)th of the pool; each adds the mean of those in the pool whose keys
                 point its way most nearly of all contextual ones

What is neither kept nor in the pool leaves nothing behind.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import ascending, largest, marked
from edgevlm.passes.tokens.pieces.bipartite import match, members, remaining, slots
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["every", "share_of", "zipped"]


def share_of(keep: int, share: float) -> int:
    """So many of K tokens: the nearest number, at least one of two and never all; none for 0."""
    return min(max(1, round(share * keep)), keep - 1) if share and keep > 1 else 0


def every(pool: int, picks: int) -> np.ndarray:
    """Places int64 [picks] in a pool: every (pool // picks)th, from the first one."""
    return np.arange(picks) * max(1, pool // picks)


def zipped(view: View, score: ir.Value, rows: ir.Value, few: int, width: int = 0) -> Choice:
    """K - few dominant tokens by score [N], and `few` that others are added to by rows [N,d].

    rows: of length 1. width: 0 takes all that are not dominant into the pool.
    """
    build, form, count, keep = view.build, view.form, view.count, view.keep
    if not few:
        return Choice(top(view, score))
    most = keep - few
    size = min(width * few, count - most) if width else count - most
    order = largest(build, form, score, count, most + size if width else most)
    if width:
        parts = build("Split", order, build.const([most, size]), outputs=2, axis=0)
        dominant, pool = parts
        pooled = marked(build, pool, count)
    else:
        dominant = order
        gone = marked(build, dominant, count)
        pool, pooled = remaining(build, gone, count, size), build("Sub", view.const(1.0), gone)
    anchors = build("Gather", pool, build.const(every(size, few)), axis=0)
    index = ascending(build, build("Concat", dominant, anchors, axis=0), keep)
    joins = build("Greater", build("Sub", pooled, marked(build, anchors, count)), view.const(0.5))
    _, to = match(build, rows, build("Gather", rows, anchors, axis=0))
    nearest = build("Gather", anchors, to, axis=0)  # [N]
    member = members(build, index, build("Where", joins, nearest, build.const(-1)))
    size_of = build("ReduceSum", member, build.const([1]), keepdims=1)
    share = build("Div", member, build("Max", size_of, view.const(1.0)))
    kept = build("Gather", view.tokens, index, axis=0)
    content = build("Add", kept, build("MatMul", share, view.tokens))
    if width:
        return Choice(index, content)
    place = build("Where", joins, nearest, build.const(np.arange(count)))
    return Choice(index, content, owner=slots(build, members(build, index, place)))
