"""A few tokens far apart in Euclidean distance, and what their span leaves of all others.

    farthest   first the token farthest from the mean, then whichever is farthest from those taken
    residual   |z_i - projection of z_i on the span of the basis|, by taking one direction after
               the other off all tokens (modified Gram-Schmidt): no solve, no k x k matrix

Each step is [N,D]; the distance of all pairs is never made. For a basis of a few tokens; a chain as
long as the budget is `greedy.py`'s. Where the target's chain is shorter, several are taken a step.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import largest, marked
from edgevlm.passes.tokens.pieces.greedy import single, steps_of
from edgevlm.passes.tokens.view import View

__all__ = ["farthest", "residual"]

#: of a direction's length, of features whose largest magnitude is 1; shorter ones are rounding
SHORTEST = 1e-6


def farthest(view: View, features: ir.Value, picks: int) -> list[ir.Value]:
    """`picks` places, int64 [1] each, in the order in which they are taken.

    features: float32 [N,D], numbers of magnitude about 1.
    """
    build, form, count = view.build, view.form, view.count
    mean = build("ReduceMean", features, build.const([0]), keepdims=1)
    far, near = _squared(view, features, mean), None
    gone = view.const(np.zeros(count))
    taken: list[ir.Value] = []
    for size in steps_of(view, picks):
        picked = largest(build, form, far, count, size, gone)
        places = single(view, picked, size)
        taken += places
        for place in places if len(taken) < picks else ():
            here = _squared(view, features, build("Gather", features, place, axis=0))
            far = near = here if near is None else build("Min", near, here)
        gone = build("Add", gone, marked(build, picked, count))
    return taken


def residual(view: View, features: ir.Value, basis: list[ir.Value]) -> ir.Value:
    """float32 [N]: length of what the span of the basis tokens leaves of each token."""
    build = view.build
    for place in basis:
        row = build("Gather", features, place, axis=0)  # [1,D]
        length = build("ReduceL2", row, build.const([1]), keepdims=1)
        unit = build("Div", row, build("Max", length, view.const(SHORTEST)))
        along = build("MatMul", features, build("Transpose", unit, perm=[1, 0]))  # [N,1]
        features = build("Sub", features, build("Mul", along, unit))
    return build("ReduceL2", features, build.const([1]), keepdims=0)


def _squared(view: View, features: ir.Value, point: ir.Value) -> ir.Value:
    """[N] squared distances to a point [1,D]."""
    off = view.build("Sub", features, point)
    return view.build("ReduceSumSquare", off, view.build.const([1]), keepdims=0)
