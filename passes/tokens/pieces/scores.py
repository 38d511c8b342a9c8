"""Scores of tokens: float32 [N], higher stays."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevlm.passes.tokens.keys import unit_range
from edgevlm.passes.tokens.view import View

__all__ = ["class_attention", "last_word_attention", "raised", "stream_change"]


def raised(scorer: Callable[[View], ir.Value], power: float) -> Callable[[View], ir.Value]:
    """A score to a power, min-maxed first so that it is in 0..1."""

    def score(view: View) -> ir.Value:
        return view.build("Pow", unit_range(view.build, scorer(view)), view.const(power))

    return score


def class_attention(view: View) -> ir.Value:
    """[N]: what the class token pays each patch in the last block, mean over heads."""
    return view.class_attention()


def last_word_attention(view: View) -> ir.Value:
    """[N]: what the last word of the prompt pays each image token one layer earlier, head mean."""
    seen = view.attention(1)
    paid = view.paid(seen, view.last_index())
    return view.build("ReduceMean", paid, view.build.const([0, 1]), keepdims=0)


def stream_change(view: View) -> ir.Value:
    """[N]: L2 norm of what the last block added to each token."""
    build = view.build
    change = build("Sub", view.hidden(0), view.hidden(1))
    return build("ReduceL2", change, build.const([1]), keepdims=0)
