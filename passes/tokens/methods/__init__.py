"""Every token reduction method there is, in the order of the cards. One added here is available."""

from __future__ import annotations

from difflib import get_close_matches

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods.dart import Dart
from edgevlm.passes.tokens.methods.divprune import DivPrune
from edgevlm.passes.tokens.methods.fastv import FastV
from edgevlm.passes.tokens.methods.random import Random
from edgevlm.passes.tokens.methods.score import Score
from edgevlm.passes.tokens.methods.stride import Stride
from edgevlm.passes.tokens.methods.v2drop import V2Drop

__all__ = ["METHODS", "find_method"]

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        # floors: what every other method has to beat
        Random,
        Stride,
        # features alone
        DivPrune,
        Dart,
        # attention of the vision encoder
        Score,
        # inside the language model
        FastV,
        V2Drop,
    )
}


def find_method(name: str) -> type[Method]:
    """Raises EV201 (UsageFault) with the nearest names."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=3, cutoff=0.4) or list(METHODS)
        raise UsageFault(
            "EV201",
            f"unknown token reduction method {name[:60]!r}",
            f"the nearest: {', '.join(near)}",
            "edgevlm passes list",
        )
    return METHODS[name]
