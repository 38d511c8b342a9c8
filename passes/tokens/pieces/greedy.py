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

__all__ = ["isolated", "max_min", "steps_of"]

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
        build, count = view.build, view.count
        distance = cosine_distance(view) if kernel is None else kernel
        gain = None
        if weight is None:
            picked = first(view, distance)
        else:
            gain = build("Max", weight(view), view.const(LEAST_WEIGHT))
            picked = build("ArgMax", gain, axis=0, keepdims=1)
            gain = build("Unsqueeze", gain, build.const([0]))
        away = _ready(view, distance)
        taken, near = [picked], build("Gather", away, picked, axis=0)  # [1,N]
        for size in steps_of(view, view.keep - 1):
            worth = near if gain is None else build("Mul", near, gain)
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
        del count
        return ascending(build, index, view.keep)

    return select


def _ready(view: View, distance: ir.Value) -> ir.Value:
    """Distances with what settles ties and marks the taken, so that a step is three nodes."""
    build, count = view.build, view.count
    if view.form.ties == "integer":
        levels = build("Mul", distance, view.const((2**view.form.bits - 1) / 2))
        whole = build("Cast", build("Round", levels), to=ir.DataType.INT64.value)
        high = build("Mul", whole, build.const(2 ** max(1, (count - 1).bit_length())))
        low = build("Add", high, build.const(np.arange(count)[::-1].copy()))
        return build("Sub", low, build.const(np.eye(count, dtype=np.int64) * 2**60))
    behind = np.eye(count) * TAKEN
    if view.form.ties == "ramp":
        behind = behind + np.arange(count) * STEP
    return build("Sub", distance, view.const(behind))
