"""Seconds in, a labelled summary out: a figure never travels without how it is known.

Percentiles are linear interpolations between the two nearest ordered samples (NumPy's default,
R's type 7): with x[0] <= ... <= x[n-1] and p = q (n - 1), the value is
x[floor p] + (p - floor p) (x[floor p + 1] - x[floor p]). With fewer than 100 samples p99 lies
between the two largest, so it says little more than the maximum does; `Summary.note` says so.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["HOW", "Ratio", "Summary", "check_how", "middle", "percentile", "summarise"]

# The closed set of provenance labels; <tool> is the estimator's name, such as estimated-vela.
HOW = ("measured-device", "measured-host", "estimated-<tool>", "predicted")
_HOW = re.compile(r"measured-device|measured-host|estimated-[a-z0-9]+([._-][a-z0-9]+)*|predicted")


def check_how(how: str) -> str:
    """Return the label unchanged. Raises ValueError when it is not one of `HOW`."""
    if not isinstance(how, str) or not _HOW.fullmatch(how):
        raise ValueError(f"{how!r} is not a provenance label; there are {', '.join(HOW)}")
    return how


@dataclasses.dataclass(frozen=True)
class Summary:
    """`n` samples in milliseconds and how they came to be known."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    mean_ms: float
    n: int
    how: str

    def __post_init__(self) -> None:
        check_how(self.how)

    @property
    def note(self) -> str | None:
        """What a reader must know before quoting p99; None from 100 samples on."""
        if self.n >= 100:
            return None
        return f"p99 of {self.n} sample{'s' * (self.n != 1)} is close to the maximum"

    def as_json(self) -> dict[str, Any]:
        """The seven fields as plain data."""
        return dataclasses.asdict(self)


def summarise(seconds: Sequence[float], how: str) -> Summary:
    """Summarise samples given in seconds.

    Raises ValueError for no samples, a negative or non-finite one, or an unknown label.
    """
    ordered = sorted(float(value) for value in seconds)
    if not ordered:
        raise ValueError("no samples to summarise")
    if not all(math.isfinite(value) and value >= 0 for value in ordered):
        raise ValueError("a time is negative or not finite")
    # Rounding may push the mean of equal samples below them by one unit in the last place.
    mean = max(ordered[0], math.fsum(ordered) / len(ordered))
    return Summary(
        p50_ms=percentile(ordered, 0.50) * 1e3,
        p90_ms=percentile(ordered, 0.90) * 1e3,
        p99_ms=percentile(ordered, 0.99) * 1e3,
        min_ms=ordered[0] * 1e3,
        mean_ms=mean * 1e3,
        n=len(ordered),
        how=how,
    )


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, of ascending values, by linear interpolation."""
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


def middle(values: Sequence[float]) -> Ratio:
    """Median and its distribution-free 95 % interval, from the order of the values alone.

    The true median lies below the r-th smallest of n values as often as n tosses of a coin show
    fewer than r heads. Below six values the interval is all of their range, and means less.
    """
    ordered = sorted(values)
    n = len(ordered)
    rank, tosses, tail = 0, n, 2 * (1 + n)  # both tails, of 2**n, if the rank were one more
    while 20 * tail <= 2**n:
        rank += 1
        tosses = tosses * (n - rank) // (rank + 1)  # n choose rank + 1
        tail += 2 * tosses
    half = n // 2
    median = ordered[half] if n % 2 else (ordered[half - 1] + ordered[half]) / 2
    return Ratio(median, ordered[rank], ordered[n - 1 - rank])
