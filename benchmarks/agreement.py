"""How far two ways of reading the same lines agree, and whether one is closer than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevlm.models.datasets.scoring import Score

__all__ = ["against", "agreement", "bootstrap", "closeness"]

DRAWS = 4_000


def closeness(ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
    """1 - edit distance / length of the longer, of each pair."""
    pairs = zip(ours, theirs, strict=True)
    return np.array([1 - _edits(a, b) / max(len(a), len(b), 1) for a, b in pairs])


def agreement(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, Any]:
    """Equal lines with Wilson's 95 % interval, mean closeness with a bootstrap's, over lines."""
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    close = closeness(ours, theirs)
    low, high = bootstrap(close)
    characters = {"mean": float(close.mean()), "low": low, "high": high}
    return {"lines": Score(len(close), same).as_json(), "characters": characters}


def against(ours: Sequence[str], theirs: Sequence[str], to: Sequence[str]) -> dict[str, Any]:
    """Line by line, which of two is `to`: McNemar's exact test, two-sided.

    And the mean difference of closeness, ours minus theirs, with a 95 % bootstrap interval.
    """
    a, b = (np.array([x == y for x, y in zip(each, to, strict=True)]) for each in (ours, theirs))
    only = int((a & ~b).sum()), int((b & ~a).sum())
    difference = closeness(ours, to) - closeness(theirs, to)
    low, high = bootstrap(difference)
    return {
        "only_ours": only[0],
        "only_theirs": only[1],
        "p": _binomial(*only),
        "characters": {"mean": float(difference.mean()), "low": low, "high": high},
    }


def _binomial(a: int, b: int) -> float:
    n = a + b
    tail = sum(math.comb(n, i) for i in range(min(a, b) + 1))
    return min(1.0, float(2 * tail / 2**n)) if n else 1.0


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.Generator(np.random.PCG64(0))
    n = len(values)
    means = [values[rng.integers(0, n, n)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
