"""Selectors without a loop: by score, by place, by chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import ascending, largest
from edgevlm.passes.tokens.view import View

__all__ = ["drawn", "fixed", "spread_index", "top"]


def top(view: View, score: ir.Value, _: ir.Value | None = None) -> ir.Value:
    """The K highest scores."""
    picked = largest(view.build, view.form, score, view.count, view.keep)
    return ascending(view.build, picked, view.keep)


def fixed(index: Callable[[int, int], np.ndarray]) -> Callable[..., ir.Value]:
    """Places known when compiling, index(N, K) -> ascending int64 [K]; free at run time."""

    def select(view: View, *_: ir.Value | None) -> ir.Value:
        return view.build("Identity", view.build.const(index(view.count, view.keep)))

    return select


def spread_index(count: int, keep: int) -> np.ndarray:
    """floor((i + 0.5) N / K), int64 [K]: evenly spread, centred in each stretch."""
    return ((np.arange(keep) + 0.5) * count / keep).astype(np.int64)


def drawn(*seed: int) -> Callable[..., ir.Value]:
    """Places drawn from a seed when compiling: the first K of a permutation, ascending."""

    def draw(count: int, keep: int) -> np.ndarray:
        source = np.random.PCG64(seed[0] if len(seed) == 1 else seed)
        return np.sort(np.random.Generator(source).permutation(count)[:keep])

    return fixed(draw)
