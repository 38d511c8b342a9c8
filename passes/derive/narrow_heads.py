"""Heads of an encoder with fewer channels, by the closed form of NuWa (2504.03118).

    before: softmax(Q K' / sqrt(d)) V O    q, k, v [heads,L,32]
    after:  the same                       q, k [heads,L,16], v [heads,L,24]; scale as it was

Channels of every head are turned so that the first carry the most (turn_heads.py), and as few stay
as keep `energy`, in the mean over the heads of a block; queries and keys of a block have one width,
values another, rounded down to `multiple`. The axis analysis cuts what lies along them: matrices,
biases, reshapes. The scale of scores is written down, as it no longer follows from the width.
Energy is the squared norm of what a head's products give: for inputs as calibration images make
them, keys less what all of them have in common (ours: 28 dB where the other gives 18 at 0.7 of
scenes-tiny's multiplications), or, without feeds, for inputs all alike, as the paper has it. Where
q, k and v are columns of one matrix and cut by one reshape, they get one width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse, resize
from edgevlm.compiler.columns import trace_heads
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.factors import Factors, width_for
from edgevlm.passes.derive.turn_heads import Turned, turn_heads
from edgevlm.passes.derive.units import Moments

__all__ = ["Cut", "head_moments", "narrow_heads"]

SCORES, VALUES = 0, 2  # inputs of Attention whose channels are cut
Cut = tuple[int, int]  # channels or units before, and after


def head_moments(part: ir.Model, feeds: Sequence[Feeds]) -> dict[str, np.ndarray]:
    """Sums of x x^T, a 1 behind x, of what projections of heads read: value -> [m+1,m+1]."""
    nodes = [node for node in part.graph if node.op_type == "Attention"]
    ways = [trace_heads(value) for node in nodes for value in node.inputs[:3]]
    read = {way.maker.inputs[0]: way.maker.inputs[0].shape[-1] for way in ways if way}
    sums = {value: Moments(int(width)) for value, width in read.items()}
    if sums:
        watch(part, list(sums), feeds, lambda v, x, _: sums[v].see(x))
    return {str(value.name): total.h for value, total in sums.items()}


def narrow_heads(
    part: ir.Model,
    signature: Signature,
    moments: dict[str, np.ndarray],
    energy: float,
    multiple: int,
    share: float | None = None,
) -> tuple[list[Cut], dict[str, str]]:
    """In place: every Attention of the part. Returns widths, and why some stay: node -> reason.

    moments: as `head_moments` gives them for this part; empty: as if all inputs were alike.
    share: of the channels that stay, whatever their energy, where shapes alone are wanted.
    """
    width = partial(width_for, share=energy, multiple=multiple)
    if share is not None:
        width = partial(_share_of, share=share, multiple=multiple)
    values = {str(v.name): v for node in part.graph for v in node.inputs if v is not None}
    known = {values[name]: sums for name, sums in moments.items()}
    cuts, left = [], {}
    for turned in turn_heads(part, known):
        name = str(turned.attention.name)
        reasons = [
            f"{what}: {found}"
            for what, found in (("scores", turned.scores), ("values", turned.values))
            if isinstance(found, str)
        ]
        try:
            cuts += _narrow(part, signature, turned, width)
        except JobFault as fault:
            reasons.append(f"{fault.what}: {fault.why}")
        if reasons:
            left[name] = "; ".join(reasons)
    return cuts, left


def _narrow(
    part: ir.Model,
    signature: Signature,
    turned: Turned,
    width_of: Callable[[list[Factors]], int],
) -> list[Cut]:
    """Of queries and keys, and of values."""
    wanted = {
        place: width_of(list(found))
        for place, found in ((SCORES, turned.scores), (VALUES, turned.values))
        if not isinstance(found, str)
    }
    axes = analyse(part.graph, signature)
    terms = [axes.of(turned.attention.inputs[place])[3] for place in (SCORES, VALUES)]
    if terms[0] == terms[1]:  # one reshape cuts q, k and v
        least = max(wanted.values(), default=0) if len(wanted) == 2 else None
        wanted = {} if least is None else {SCORES: least}
    cuts = []
    for place, width in wanted.items():
        value = turned.attention.inputs[place]
        old = int(value.shape[3])
        resize(axes, axes.of(value)[3], width, keep=np.arange(width))
        cuts.append((old, width))
    return cuts


def _share_of(heads: list[Factors], share: float, multiple: int) -> int:
    """Rounded down as `width_for` does."""
    whole = len(heads[0].energy)
    return max(int(share * whole) // multiple * multiple, min(multiple, whole))
