"""What a row of the table of MIL ops is, and numbers for it. Not a test.

A row is one op in one form: what is fed, how coremltools builds it, and what numpy says of it. It
is run in fp32 and in fp16 unless `types` says otherwise; floats that are fed and constants made
with `t(...)` are of that type, integers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["BOTH", "Row", "Rows", "ints", "normal", "uniform"]

BOTH = (np.float32, np.float16)


@dataclass(frozen=True)
class Row:
    """build(mb, t, **variables) -> a variable or several; want(*feeds, *more) of float64."""

    feeds: dict[str, np.ndarray]
    build: Callable[..., Any]
    want: Callable[..., Any]
    types: tuple[type, ...] = BOTH
    ios: int = 18
    #: further numbers that are constants in the program; `want` has them as well
    more: dict[str, np.ndarray] = field(default_factory=dict)


Rows = list[Row]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, size=shape)


def ints(low: int, high: int, *shape: int, seed: int = 0) -> np.ndarray:
    """low to high - 1."""
    return np.random.default_rng(seed).integers(low, high, size=shape).astype(np.int32)
