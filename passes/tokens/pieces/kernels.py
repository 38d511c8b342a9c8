"""Likeness between tokens: float32 [N,N] from features [N,D]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.view import View

__all__ = ["cosine", "cosine_distance", "scaled", "transposed", "unit"]

#: of float32 features; between the two, dividing by the largest magnitude is exact to rounding
LARGEST, SMALLEST = 3e38, 1e-30


def scaled(view: View, features: ir.Value) -> ir.Value:
    """Divided by the largest magnitude there is: no norm overflows, in float16 neither.

    Not a number counts as nothing and infinity as the largest number, because either would make an
    order, and with it the promise of unique indices, undefined.
    """
    build = view.build
    clean = build("Where", build("IsNaN", features), view.const(0), features)
    clean = build("Clip", clean, view.const(-LARGEST), view.const(LARGEST))
    axes = build.const(np.arange(len(features.shape) or 2) if features.shape else [0, 1])
    peak = build("ReduceMax", build("Abs", clean), axes, keepdims=1)
    return build("Div", clean, build("Max", peak, view.const(SMALLEST)))


def unit(view: View, features: ir.Value) -> ir.Value:
    """Rows of length 1; a row of zeros stays one."""
    build = view.build
    flat = scaled(view, features)
    length = build("ReduceL2", flat, build.const([-1]), keepdims=1)
    return build("Div", flat, build("Max", length, view.const(1e-12)))


def transposed(view: View, matrix: ir.Value) -> ir.Value:
    return view.build("Transpose", matrix, perm=[1, 0])


def cosine(view: View, features: ir.Value | None = None) -> ir.Value:
    """[N,N] cosine of the tokens, or of other features [N,D]."""
    rows = unit(view, view.tokens if features is None else features)
    return view.build("MatMul", rows, transposed(view, rows))


def cosine_distance(view: View, features: ir.Value | None = None) -> ir.Value:
    """[N,N] 1 - cosine, 0..2. Not a metric: the bounds of greedy k-centre do not hold for it."""
    distance = view.build("Sub", view.const(1.0), cosine(view, features))
    return view.build("Max", distance, view.const(0.0))
