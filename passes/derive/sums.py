"""What calibration pictures make of an encoder, added up: all of them that narrowing needs to know.

For what projections of heads read, and for hidden units, the sum of x x^T over all tokens, a 1
behind x. Pictures are seen once, and sums over some pictures and over others add up to those over
all. They are taken in front of any narrowing: behind heads that are narrower already the same units
go (within 0.4 dB on fashion-vit, to either side), and every energy would want sums of its own. What
was seen of one class serves every set that it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse
from edgevlm.compiler.columns import trace_heads
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.shelf import Arrays
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.mlps import find_mlps
from edgevlm.passes.derive.units import Moments

__all__ = ["Seen", "arrays_of", "see", "seen_of", "together"]

Seen = Mapping[str, Moments]  # by the name of a value
ROWS = 512  # tokens, or one picture's: adding a product takes as long as some hundred rows of it


def see(part: ir.Model, signature: Signature, feeds: Sequence[Feeds]) -> Seen:
    """Over all feeds. Raises EV210, EV211 where the axis analysis does, ValueError for NaN."""
    heads = [node for node in part.graph if node.op_type == "Attention"]
    ways = [trace_heads(value) for node in heads for value in node.inputs[:3]]
    read = [way.maker.inputs[0] for way in ways if way]
    hidden = [mlp.hidden for mlp in find_mlps(analyse(part.graph, signature))]
    sums = {value: Moments(int(value.shape[-1])) for value in (*read, *hidden)}
    rows: dict[ir.Value, list[np.ndarray]] = {value: [] for value in sums}

    def add(value: ir.Value) -> None:
        if rows[value]:
            sums[value].see(np.concatenate(rows[value]))
            rows[value].clear()

    def look(value: ir.Value, x: np.ndarray, _: int) -> None:
        rows[value].append(x.reshape(-1, x.shape[-1]))
        if sum(map(len, rows[value])) >= ROWS:
            add(value)

    if sums:
        watch(part, list(sums), feeds, look)
    for value in sums:
        add(value)
    return {str(value.name): total for value, total in sums.items()}


def together(a: Seen, b: Seen) -> Seen:
    """Over the pictures of both."""
    return {name: total.plus(b[name]) for name, total in a.items()}


def arrays_of(seen: Seen) -> Arrays:
    """What a memo keeps: with the 1 behind x, the number of tokens is in the sums."""
    return {name: total.h for name, total in seen.items()}


def seen_of(arrays: Arrays) -> Seen:
    return {name: Moments.of(h) for name, h in arrays.items()}
