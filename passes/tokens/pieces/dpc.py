"""Density peaks (DPC-KNN, P6): centres are dense tokens far from any denser one. No loop.

    distance  d_ij = |x_i - x_j| / sqrt(D)
    density   rho_i = exp(-mean of d_ij^2 over the k nearest, itself among them)
    lead      delta_i = min of d_ij over denser j, the largest distance there is for the densest
    centres   the k largest rho x delta; every token then belongs to its nearest centre

All in logarithms, because densities of long features are below any float32. Public code adds noise
so that no two densities are equal; here the lower index is the denser one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import finite, largest
from edgevlm.passes.tokens.pieces.kernels import scaled
from edgevlm.passes.tokens.view import View

__all__ = ["cluster", "l2_distance"]

#: features beyond are cut off, so that no distance overflows float32
LARGEST = 1e15
#: of a distance that is about to be taken the logarithm of
SMALLEST = 1e-30


def l2_distance(view: View, features: ir.Value, count: int) -> ir.Value:
    """float32 [N,N] Euclidean distances of features [N,D], N = `count`; 0 on the diagonal.

    By the Gram matrix, whose rounding grows with what all rows have in common; so their mean is
    taken off first, and what rounds below 0 is 0.
    """
    build = view.build
    features = build("Sub", features, build("ReduceMean", features, build.const([0]), keepdims=1))
    gram = build("MatMul", features, build("Transpose", features, perm=[1, 0]))
    square = build("ReduceSumSquare", features, build.const([1]), keepdims=1)
    both = build("Add", square, build("Transpose", square, perm=[1, 0]))
    twice = build("Sub", both, build("Mul", gram, view.const(2.0)))
    apart = view.const(1 - np.eye(count))
    return build("Sqrt", build("Max", build("Mul", twice, apart), view.const(0.0)))


def cluster(
    view: View, features: ir.Value, count: int, centres: int, width: int
) -> tuple[ir.Value, ir.Value]:
    """(centre places int64 [C], best first; member float32 [C,M]: 1 where a token belongs to it).

    features: float32 [M,D] of M = `count` tokens, D = `width`.
    """
    build, one = view.build, view.const(1.0)
    clean = build("Where", build("IsNaN", features), view.const(0.0), features)
    clean = build("Clip", clean, view.const(-LARGEST), view.const(LARGEST))
    peak = build("ReduceMax", build("Abs", clean), build.const([0, 1]), keepdims=0)
    unit = build("Div", l2_distance(view, scaled(view, clean), count), view.const(width**0.5))
    distance = build("Mul", unit, peak)  # [M,M]
    near = build("TopK", distance, build.const([centres]), outputs=2, axis=1, largest=0)[0]
    spread = build("ReduceMean", build("Mul", near, near), build.const([1]), keepdims=0)
    density = build("Neg", spread)  # [M], its logarithm
    column = build("Unsqueeze", density, build.const([1]))
    first = view.const(np.tril(np.ones((count, count)), -1) > 0, bool)  # j < i settles a tie
    denser = build(
        "Or",
        build("Greater", density, column),
        build("And", build("Equal", density, column), first),
    )
    farthest = build("ReduceMax", distance, build.const([0, 1]), keepdims=0)
    lead = build(
        "ReduceMin", build("Where", denser, distance, farthest), build.const([1]), keepdims=0
    )
    size = build("Log", build("Max", lead, view.const(SMALLEST)))
    worth = finite(build, build("Add", density, size))
    centre = largest(build, view.form, worth, count, centres)
    to = build("ArgMin", build("Gather", distance, centre, axis=0), axis=0, keepdims=0)  # [M]
    member = build("OneHot", to, build.const([centres]), view.const([0, 1]), axis=0)
    is_centre = build("OneHot", centre, build.const([count]), view.const([0, 1]), axis=-1)  # [C,M]
    others = build("Sub", one, build("ReduceSum", is_centre, build.const([0]), keepdims=1))
    return centre, build("Add", build("Mul", member, others), is_centre)
