"""Scores of tokens: float32 [N], higher stays."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevlm.passes.tokens.keys import finite, unit_range
from edgevlm.passes.tokens.pieces.kernels import scaled
from edgevlm.passes.tokens.view import Attending, View

__all__ = [
    "class_attention",
    "last_word_attention",
    "length",
    "of_peak",
    "raised",
    "ranged",
    "share",
    "stream_change",
    "weighed",
    "words_attention",
]


def ranged(scorer: Callable[[View], ir.Value]) -> Callable[[View], ir.Value]:
    """A score min-maxed to 0..1."""
    return lambda view: unit_range(view.build, scorer(view))


def raised(scorer: Callable[[View], ir.Value], power: float) -> Callable[[View], ir.Value]:
    """A score that is never below 0, such as attention, as a share of its largest; to a power."""
    return lambda view: view.build("Pow", of_peak(view, scorer(view)), view.const(power))


def of_peak(view: View, score: ir.Value) -> ir.Value:
    """[N], 0..1: a score that is never below 0 over its largest."""
    build = view.build
    clean = build("Max", finite(build, score), view.const(0.0))
    peak = build("Max", build("ReduceMax", clean, keepdims=0), view.const(1e-30))
    return build("Div", clean, peak)


def class_attention(view: View) -> ir.Value:
    """[N]: what the class token pays each patch in the last block, mean over heads."""
    return view.class_attention()


def length(view: View) -> ir.Value:
    """[N]: L2 norm of each token's features, the largest magnitude among them taken as 1."""
    return view.build("ReduceL2", scaled(view, view.tokens), view.build.const([1]), keepdims=0)


def last_word_attention(view: View) -> ir.Value:
    """[N]: what the last word of the prompt pays each image token one layer earlier, head mean."""
    seen = view.attention(1)
    paid = view.paid(seen, view.last_index())
    return view.build("ReduceMean", paid, view.build.const([0, 1]), keepdims=0)


def stream_change(view: View, norm: str = "ReduceL2") -> ir.Value:
    """[N]: L2 (or L1) norm of what the last block added to each token."""
    build = view.build
    change = build("Sub", view.hidden(0), view.hidden(1))
    return build(norm, change, build.const([1]), keepdims=0)


def words_attention(view: View, seen: Attending, weight: ir.Value | None = None) -> ir.Value:
    """[heads,N]: what the words behind the image pay each token, in the mean over words.

    weight: float32 [T] of the words, idle rows 0; all words alike where there is none.
    """
    words = view.text_rows()
    return weighed(view, view.paid(seen, words.rows), words.mask if weight is None else weight)


def weighed(view: View, rows: ir.Value, weight: ir.Value) -> ir.Value:
    """[...,N]: the mean of rows [...,T,N] by weights [T]; zeros where all weights are 0."""
    build = view.build
    total = build("ReduceSum", weight, build.const([0]), keepdims=0)
    part = build("Div", weight, build("Max", total, view.const(1e-12)))
    each = build("Mul", rows, build("Unsqueeze", part, build.const([1])))
    return build("ReduceSum", each, build.const([-2]), keepdims=0)


def share(view: View, score: ir.Value) -> ir.Value:
    """[N]: a score divided by its sum, so that scores of different size may be added."""
    build = view.build
    clean = finite(build, score)
    total = build("ReduceSum", clean, build.const([0]), keepdims=0)
    return build("Div", clean, build("Max", total, view.const(1e-12)))
