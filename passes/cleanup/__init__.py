"""Passes that keep the function and shrink the graph."""

from __future__ import annotations

__all__ = ["RANDOM_OPS"]

#: another result every time they run: neither a constant nor a common subexpression
RANDOM_OPS = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)
