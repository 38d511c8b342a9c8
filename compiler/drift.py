"""How far one tensor is from another: SQNR in dB, cosine, largest difference.

Of int8 codes, two are compared that were rounded from numbers which may themselves differ in their
last digits: one on the edge between two codes falls to either side. Such single steps say nothing
of how far the numbers are apart, as long as they are few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["EXACT_DB", "Drift", "measure", "measure_codes", "worst"]

#: dB; stands for "no difference at all", where the ratio is infinite
EXACT_DB = 200.0
#: share of codes that may be a step apart; rounding down in place of to nearest moves half of them
ON_EDGE = 0.25


@dataclass(frozen=True)
class Drift:
    """Distance of a tensor from its reference."""

    sqnr_db: float  # 10 log10(signal power / error power), capped at 200
    cosine: float
    max_abs: float
    where: str  # tensor
    #: share of kept image tokens both sides chose (Jaccard); None where nothing is chosen
    overlap: float | None = None

    def as_json(self) -> dict[str, float | str | None]:
        """Rounded; an infinite figure is None, which JSON can carry."""
        finite = math.isfinite(self.sqnr_db) and math.isfinite(self.max_abs)
        return {
            "sqnr_db": round(self.sqnr_db, 1) if finite else None,
            "cosine": round(self.cosine, 6),
            "max_abs": float(f"{self.max_abs:.3g}") if finite else None,
            "tensor": self.where,
            "token_overlap": None if self.overlap is None else round(self.overlap, 4),
        }

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Drift:
        """As `as_json` rounded it."""
        db, largest = data["sqnr_db"], data["max_abs"]
        return cls(
            -math.inf if db is None else db,
            data["cosine"],
            math.inf if largest is None else largest,
            data["tensor"],
            data["token_overlap"],
        )


def measure(reference: np.ndarray, actual: np.ndarray, where: str) -> Drift:
    """Compare two arrays of one shape, in float64.

    A NaN or an infinity must stand where the reference has the same one; anywhere else, as for
    another shape or for nothing to compare, the answer is -inf dB.
    """
    a, b = (np.asarray(x, np.float64) for x in (reference, actual))
    finite = np.isfinite(a)
    if not a.size or not np.array_equal(finite, np.isfinite(b)):  # of equal shapes only
        return Drift(-math.inf, 0.0, math.inf, where)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return Drift(-math.inf, 0.0, math.inf, where)
    a, b = a[finite], b[finite]
    if np.array_equal(a, b):
        return Drift(EXACT_DB, 1.0, 0.0, where)
    largest = float(np.abs(a - b).max())
    top = max(float(np.abs(a).max()), float(np.abs(b).max()))
    a, b = a / top, b / top  # so that no square overflows
    signal, error = float(a @ a), float((a - b) @ (a - b))
    if not error:  # too small to square
        return Drift(EXACT_DB, 1.0, largest, where)
    sqnr = 10 * math.log10(signal / error) if signal else -math.inf
    norms = math.sqrt(signal) * float(np.linalg.norm(b))
    cosine = float(a @ b) / norms if norms else 0.0
    return Drift(min(sqnr, EXACT_DB), cosine, largest, where)


def measure_codes(reference: np.ndarray, actual: np.ndarray, where: str) -> Drift:
    """Compare int8 codes of one shape: the differences that rounding on the edge cannot explain.

    Single steps count where more than a quarter of the codes are apart. `max_abs` is in steps, and
    tells of all.
    """
    found = measure(reference, actual, where)
    if reference.shape != actual.shape or not reference.size:
        return found
    apart = actual.astype(np.int64) - reference
    if np.mean(apart != 0) > ON_EDGE:
        return found
    beyond = np.sign(apart) * np.maximum(np.abs(apart) - 1, 0)
    return replace(measure(reference, reference + beyond, where), max_abs=found.max_abs)


def worst(drifts: list[Drift]) -> Drift | None:
    """The one with the lowest SQNR."""
    return min(drifts, key=lambda d: d.sqnr_db, default=None)
