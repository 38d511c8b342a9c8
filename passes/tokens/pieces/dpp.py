"""Greedy log-determinant (P4): the set whose features span the largest volume, a token a step.

    gain   d_i = L_ii - |c_i|^2: what token i adds, squared, beyond the span of those taken
    step   j = arg max worth;  e = (L_j - c_j^T c) / sqrt(d_j);  c gains the row e;  d -= e^2

An incremental Cholesky factorisation: the product of the gains taken is the determinant of L on
them. `c` [t,N] grows by Concat, so a step is sixteen nodes however many came before. With a quality
r per token, det(diag(r) L diag(r)) has the gains r_i^2 d_i: quality is a term of `worth`, and L
keeps its diagonal of ones, which is what float32 is fit for. Once the rank of L is used up, gains
are rounding; the floor makes them equal. Where the target's chain is shorter than K, several of
the largest are taken at once, then conditioned on one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import ascending, largest
from edgevlm.passes.tokens.pieces.greedy import single, steps_of
from edgevlm.passes.tokens.view import View

__all__ = ["FLOOR", "max_volume"]

#: of gains; below is what is left of 1 by rounding in float32
FLOOR = 1e-6
TAKEN = -1e30
DIGITS = 1e5

#: (view, log d [N], bool [N]: what is taken) -> float32 [N], what a step maximises
Worth = Callable[[View, ir.Value, ir.Value], ir.Value]


def _log_gain(view: View, gain: ir.Value, gone: ir.Value) -> ir.Value:
    del view, gone
    return gain


def max_volume(view: View, kernel: ir.Value, worth: Worth = _log_gain) -> ir.Value:
    """Places [K], ascending, of the greedy maximum of log det L.

    kernel: L, float32 [N,N], positive semidefinite, its diagonal about 1 (or 0 for an empty token).
    """
    build, count = view.build, view.count
    lattice, floor = build.const(np.arange(count)), view.const(FLOOR)
    diagonal = build("Mul", kernel, view.const(np.eye(count)))
    gain = build("Max", build("ReduceSum", diagonal, build.const([1]), keepdims=0), floor)
    seen = _rounded(view, gain)
    gone = view.const(np.zeros(count), bool)
    factor, taken, left = None, [], view.keep
    for size in steps_of(view, view.keep):
        picked = _best(view, worth(view, build("Log", seen), gone), gone, size)
        taken.append(picked)
        left -= size
        for place in single(view, picked, size) if left else ():
            row = build("Gather", kernel, place, axis=0)  # [1,N]
            if factor is not None:
                column = build("Gather", factor, place, axis=1)  # [t,1]
                row = build("Gemm", column, factor, row, transA=1, alpha=-1.0)
            row = build("Div", row, build("Sqrt", build("Gather", gain, place, axis=0)))
            factor = row if factor is None else build("Concat", factor, row, axis=0)
            square = build("Reshape", build("Mul", row, row), build.const([count]))
            seen = gain = build("Max", build("Sub", gain, square), floor)
            gone = build("Or", gone, build("Equal", lattice, place))
    index = taken[0] if len(taken) == 1 else build("Concat", *taken, axis=0)
    return ascending(build, index, view.keep)


def _rounded(view: View, gain: ir.Value) -> ir.Value:
    """Lengths of 1 that rounding made unequal are equal again, so that the first pick is none of
    its making."""
    digits = view.const(DIGITS)
    whole = view.build("Round", view.build("Mul", gain, digits))
    return view.build("Max", view.build("Div", whole, digits), view.const(FLOOR))


def _best(view: View, score: ir.Value, gone: ir.Value, size: int) -> ir.Value:
    """Places [size] of the largest scores that are not taken; scores are numbers."""
    build, form = view.build, view.form
    if form.ties == "stable" and size == 1:
        open_ = build("Where", gone, view.const(TAKEN), score)
        return build("ArgMax", open_, axis=0, keepdims=1)
    taken = build("Cast", gone, to=ir.DataType.FLOAT.value)
    return largest(build, form, score, view.count, size, taken)
