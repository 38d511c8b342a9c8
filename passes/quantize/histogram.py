"""How large the numbers of one tensor are, counted while they go by.

Bins of equal width over [0, 2^e) for |x|. When a larger number comes, e grows and neighbours are
added up: edges of the coarse histogram are edges of the fine one, so what is counted does not hang
on the order or on how the numbers were split into batches.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["BINS", "Histogram"]

BINS = 4096  # at least half of them below the largest number
LEAST = -126  # exponent of the smallest normal float32


class Histogram:
    """Of |x|; `add` may be called as often as there are batches."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.exponent: int | None = None  # of the range; None: nothing but zeros came
        self.zeros = 0  # exact ones need no range
        self.top = 0.0  # the largest |x|, exactly
        self.odd = 0  # NaN and infinite

    def add(self, values: np.ndarray) -> None:
        """Count them. NaN and infinite numbers are counted apart."""
        size = np.abs(np.asarray(values, np.float64).ravel())
        finite = np.isfinite(size)
        self.odd += int(size.size - finite.sum())
        size = size[finite]
        self.zeros += int((size == 0).sum())
        size = size[size > 0]
        if not size.size:
            return
        top = float(size.max())
        self.top = max(self.top, top)
        self._reach(max(LEAST, math.frexp(top)[1]))
        places = np.floor(np.ldexp(size, -self.exponent) * BINS).astype(np.int64)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self.exponent) / BINS if self.exponent is not None else 0.0

    @property
    def total(self) -> int:
        """Finite numbers that came."""
        return int(self.counts.sum()) + self.zeros

    def centres(self) -> np.ndarray:
        """float64 [BINS]."""
        return (np.arange(BINS) + 0.5) * self.width

    def _reach(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        while self.exponent < exponent:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
            self.exponent += 1
