"""Mergers: what dropped tokens leave behind in the kept ones (P5).

Every dropped token is assigned to the kept one it is most like; `mean`, `added_mean` and `blended`
say what is done with those. Two matrix products; all N rows take part, kept ones masked, so nothing
depends on how many are assigned where. A kept token that got none is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import marked
from edgevlm.passes.tokens.pieces.kernels import cosine
from edgevlm.passes.tokens.view import View

__all__ = ["added_mean", "assignment", "blended", "mean"]

Likeness = Callable[[View], ir.Value]  # -> float32 [N,N]
Merger = Callable[[View, ir.Value, ir.Value | None], ir.Value]


def assignment(view: View, index: ir.Value, likeness: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(member [K,N], near [K,N]): 1 where a dropped token goes to a kept one; their likeness."""
    build = view.build
    near = build("Gather", likeness, index, axis=0)  # [K,N]
    to = build("ArgMax", near, axis=0, keepdims=0)
    hot = build("OneHot", to, build.const([view.keep]), view.const([0, 1]), axis=0)
    dropped = build("Sub", view.const(1.0), marked(build, index, view.count))
    return build("Mul", hot, dropped), near


def mean(likeness: Likeness = cosine) -> Merger:
    """Each kept token becomes the mean of itself and those assigned to it."""

    def merge(view: View, index: ir.Value, _: ir.Value | None) -> ir.Value:
        build = view.build
        member, _near = assignment(view, index, likeness(view))
        total = build("Add", _kept(view, index), build("MatMul", member, view.tokens))
        return build("Div", total, build("Add", _size(view, member), view.const(1.0)))

    return merge


def added_mean(likeness: Likeness = cosine) -> Merger:
    """The mean of those assigned is added to the kept token (VisionZip): its norm about doubles."""

    def merge(view: View, index: ir.Value, _: ir.Value | None) -> ir.Value:
        build = view.build
        member, _near = assignment(view, index, likeness(view))
        size = build("Max", _size(view, member), view.const(1.0))
        share = build("Div", build("MatMul", member, view.tokens), size)
        return build("Add", _kept(view, index), share)

    return merge


def blended(beta: float, likeness: Likeness = cosine) -> Merger:
    """beta x kept + (1 - beta) x likeness-weighted mean of those assigned, where there are any."""

    def merge(view: View, index: ir.Value, _: ir.Value | None) -> ir.Value:
        build = view.build
        member, near = assignment(view, index, likeness(view))
        weight = build("Mul", member, build("Max", near, view.const(0.0)))
        total = build("ReduceSum", weight, build.const([1]), keepdims=1)
        share = build("MatMul", weight, view.tokens)
        share = build("Div", share, build("Max", total, view.const(1e-8)))
        kept = _kept(view, index)
        old, new = (build("Mul", v, view.const(b)) for v, b in ((kept, beta), (share, 1 - beta)))
        some = build("Greater", total, view.const(np.float32(1e-8)))
        return build("Where", some, build("Add", old, new), kept)

    return merge


def _kept(view: View, index: ir.Value) -> ir.Value:
    return view.build("Gather", view.tokens, index, axis=0)


def _size(view: View, member: ir.Value) -> ir.Value:
    return view.build("ReduceSum", member, view.build.const([1]), keepdims=1)
