"""Heads of an encoder with fewer channels, by the closed form of NuWa (2504.03118).

    before: softmax(Q K' / sqrt(d)) V O    q, k, v [heads,L,32]
    after:  the same                       q, k [heads,L,16], v [heads,L,24]; scale as it was

Channels of every head are turned so that the first carry the most (turn_heads.py); then as few stay
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

from edgevlm.compiler.axes import Analysis, Signature, analyse, resize
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.derive.factors import rounded_down, width_for
from edgevlm.passes.derive.turn_heads import Turned

__all__ = ["Cut", "head_widths", "narrow_heads"]

SCORES, VALUES = 0, 2  # inputs of Attention whose channels are cut
Cut = tuple[int, int]  # channels or units before, and after


def narrow_heads(
    part: ir.Model,
    signature: Signature,
    turned: Sequence[Turned],
    energy: float,
    multiple: int,
    share: float | None = None,
) -> tuple[list[Cut], dict[str, str]]:
    """In place: every Attention of the part. Returns widths, and why some stay: node -> reason.

    turned: what `turn_heads` told of this part, or of what it is a clone of.
    share: of the channels that stay, whatever their energy, where shapes alone are wanted.
    """
    width = partial(width_for, share=energy, multiple=multiple)
    if share is not None:
        width = partial(_share_of, share=share, multiple=multiple)
    axes = analyse(part.graph, signature)
    attentions = [node for node in part.graph if node.op_type == "Attention"]
    cuts, left = [], {}
    for attention, heads in zip(attentions, turned, strict=True):
        name = str(attention.name)
        reasons = [
            f"{what}: {found}"
            for what, found in (("scores", heads.scores), ("values", heads.values))
            if isinstance(found, str)
        ]
        try:
            cuts += _narrow(axes, attention, heads, width)
        except JobFault as fault:
            reasons.append(f"{fault.what}: {fault.why}")
        if reasons:
            left[name] = "; ".join(reasons)
    return cuts, left


def head_widths(turned: Sequence[Turned], energy: float, multiple: int) -> list[int]:
    """What `narrow_heads` goes by; energies with the same widths make the same heads."""
    width = partial(width_for, share=energy, multiple=multiple)
    return [wanted for heads in turned for wanted in _wanted(heads, width).values()]


def _wanted(turned: Turned, width_of: Callable[[list[np.ndarray]], int]) -> dict[int, int]:
    """Place -> width of what a turn passes through."""
    return {
        place: width_of(list(found))
        for place, found in ((SCORES, turned.scores), (VALUES, turned.values))
        if not isinstance(found, str)
    }


def _narrow(
    axes: Analysis,
    attention: ir.Node,
    turned: Turned,
    width_of: Callable[[list[np.ndarray]], int],
) -> list[Cut]:
    """Of queries and keys, and of values."""
    wanted = _wanted(turned, width_of)
    terms = [axes.of(attention.inputs[place])[3] for place in (SCORES, VALUES)]
    if terms[0] == terms[1]:  # one reshape cuts q, k and v
        least = max(wanted.values(), default=0) if len(wanted) == 2 else None
        wanted = {} if least is None else {SCORES: least}
    cuts = []
    for place, width in wanted.items():
        value = attention.inputs[place]
        old = int(value.shape[3])
        resize(axes, axes.of(value)[3], width, keep=np.arange(width))
        cuts.append((old, width))
    return cuts


def _share_of(energies: list[np.ndarray], share: float, multiple: int) -> int:
    whole = len(energies[0])
    return rounded_down(int(share * whole), whole, multiple)
