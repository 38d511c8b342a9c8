"""Greedy choices: each step needs the last one's answer, so the steps are unrolled.

Where the target's longest chain is shorter than K, several tokens are taken a step; that is a
coarser method, and noted as such.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import STEP, ascending
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.view import View

__all__ = ["among", "isolated", "max_min", "single", "steps_of"]

#: behind every distance, also when weighted
TAKEN = 1e30
#: weights are kept off zero, so that a taken token stays behind whatever its weight
LEAST_WEIGHT = 1e-9


def steps_of(view: View, picks: int) -> list[int]:
    """Picks of each step: ones while the target's chain is long enough, else equal blocks."""
    if picks <= view.form.steps:
        return [1] * picks
    sizes = [len(part) for part in np.array_split(np.arange(picks), view.form.steps)]
    view.note(f"{picks} greedy picks in {len(sizes)} steps of up to {sizes[0]}: a blocked stand-in")
    return sizes


def single(view: View, places: ir.Value, size: int) -> list[ir.Value]:
    """Places [size] as so many of [1]."""
    if size == 1:
        return [places]
    return list(view.build("Split", places, outputs=size, axis=0, num_outputs=size))


def among(view: View, tokens: ir.Value, count: int, keep: int) -> View:
    """Some of the tokens as a view of their own, to keep `keep` of those: features, no taps.

    tokens: float32 [count,D]. Places chosen there are places among these.
    """
    same = (view.build, view.site, view.model, view.form, view.method)
    return View(*same, keep, count, tokens, view.width, notes=view.notes)


def isolated(view: View, distance: ir.Value) -> ir.Value:
    """Place [1] of the token whose nearest neighbour is farthest: where DivPrune starts."""
    build, count = view.build, view.count
    far = view.const(np.eye(count) * TAKEN)
    nearest = build("ReduceMin", build("Add", distance, far), build.const([1]), keepdims=0)
    return build("ArgMax", nearest, axis=0, keepdims=1)


def max_min(
    weight: Callable[[View], ir.Value] | None = None,
    first: Callable[[View, ir.Value], ir.Value] = isolated,
) -> Callable[..., ir.Value]:
    """Farthest-point choice: next is arg max of weight x distance to what is taken (P3).

    weight: -> float32 [N], non-negative; the first pick is then its arg max. Taken tokens lie
    `TAKEN` behind all others, so exact duplicates cannot be taken twice.
    """

    def select(view: View, _: ir.Value | None, kernel: ir.Value | None) -> ir.Value:
        build = view.build
        distance = cosine_distance(view) if kernel is None else kernel
        gain = None
        if weight is None:
            picked = first(view, distance)
        else:
            gain = build("Max", weight(view), view.const(LEAST_WEIGHT))
            picked = build("ArgMax", gain, axis=0, keepdims=1)
            gain = build("Unsqueeze", gain, build.const([0]))
        taken, sizes = [picked], steps_of(view, view.keep - 1)
        if sizes:
            away = _ready(view, distance, weighted=gain is not None)
            near = build("Gather", away, picked, axis=0)  # [1,N]
        for size in sizes:
            worth = near if gain is None else _key(view, build("Mul", near, gain))
            if size == 1:
                picked = build("ArgMax", worth, axis=1, keepdims=0)
                row = build("Gather", away, picked, axis=0)
            else:
                best = build("TopK", worth, build.const([size]), outputs=2, axis=1)[1]
                picked = build("Reshape", best, build.const([size]))
                rows = build("Gather", away, picked, axis=0)
                row = build("ReduceMin", rows, build.const([0]), keepdims=1)
            taken.append(picked)
            near = build("Min", near, row)
        index = taken[0] if len(taken) == 1 else build("Concat", *taken, axis=0)
        return ascending(build, index, view.keep)

    return select


def _ready(view: View, distance: ir.Value, weighted: bool) -> ir.Value:
    """Distances with what settles ties and marks the taken, so that a step is three nodes."""
    build, count = view.build, view.count
    if view.form.ties == "integer" and not weighted:
        taken = build.const(np.eye(count, dtype=np.int64) * 2**60)
        return build("Sub", _whole(view, distance), taken)
    behind = np.eye(count) * TAKEN
    if view.form.ties == "ramp":
        behind = behind + np.arange(count) * STEP
    return build("Sub", distance, view.const(behind))


def _key(view: View, worth: ir.Value) -> ir.Value:
    """A weighted distance as it is compared: on integers, taken tokens are all below 0."""
    if view.form.ties != "integer":
        return worth
    return _whole(view, view.build("Max", worth, view.const(-1.0)))


def _whole(view: View, distance: ir.Value) -> ir.Value:
    """Distances 0..2 [...,N] as integer keys with the index in the low bits; unique but below 0."""
    build, count = view.build, view.count
    levels = build("Mul", distance, view.const((2**view.form.bits - 1) / 2))
    whole = build("Cast", build("Round", levels), to=ir.DataType.INT64.value)
    high = build("Mul", whole, build.const(2 ** max(1, (count - 1).bit_length())))
    return build("Add", high, build.const(np.arange(count)[::-1].copy()))
