"""Two models on the same rows: by how much does one do better, and is that more than chance?

Most rows are answered rightly by both or by neither and say nothing. What is left are the rows that
one alone answers rightly; if neither model were better, each of these would be a toss of a coin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.models.datasets.scoring import Z_95, Score

__all__ = ["ALPHA", "Pairs", "holm", "unpaired"]

ALPHA = 0.05  # two-sided; what a 95 % interval leaves out
HALVINGS = 60  # of an interval no longer than 2: past the last bit of a float


@dataclass(frozen=True)
class Pairs:
    """How often which of the two was right: counts of rows."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @classmethod
    def of(cls, a: Sequence[bool], b: Sequence[bool]) -> Pairs:
        """From whether each row was right. Raises ValueError where there are not as many."""
        seen = list(zip(map(bool, a), map(bool, b), strict=True))
        return cls(*map(seen.count, ((True, True), (True, False), (False, True), (False, False))))

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Share that B is right on less that of A, -1..1; not a number without a row."""
        return (self.only_b - self.only_a) / self.n if self.n else math.nan

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided: what a fair coin gives as far from half or farther.

        Q. McNemar, Psychometrika 12 (1947) 153, with the binomial instead of chi squared. Of the
        usual tests the strictest; it never claims more often than it may.
        """
        return _tails(min(self.only_a, self.only_b), self.only_a + self.only_b)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval of the difference; (-1, 1) without a row.

        T. Tango, Statist. Med. 17 (1998) 891: all differences that a score test does not reject.
        Unlike d +- 1.96 s it is not empty where the models never differ, and stays in -1..1.
        """
        if not self.n:
            return -1.0, 1.0
        point = self.difference
        return self._crossing(-1.0, point, Z_95), self._crossing(point, 1.0, -Z_95)

    @property
    def significant(self) -> bool:
        return self.p < ALPHA

    @property
    def told_from(self) -> float | None:
        """The least difference that is significant with so many rows right by one alone.

        None where even all of them on one side would not be: there are fewer than six.
        """
        alone = self.only_a + self.only_b
        fewer = [k for k in range(alone // 2 + 1) if _tails(k, alone) < ALPHA]
        return (alone - 2 * fewer[-1]) / self.n if fewer else None

    def as_json(self) -> dict[str, Any]:
        """Counts, and the difference with its interval in points: 100 times a share."""
        low, high = self.interval
        return {
            "n": self.n,
            "both": self.both,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "neither": self.neither,
            "points": 100 * self.difference,
            "low": 100 * low,
            "high": 100 * high,
            "p": self.p,
        }

    def _score(self, delta: float) -> float:
        """Tango's statistic: how many deviations the data lie above a difference of `delta`."""
        n, up, down = self.n, self.only_b, self.only_a
        b = (2 * n - up + down) * delta - up - down
        c = -down * delta * (1 - delta)
        share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # of A alone, if delta holds
        variance = n * (2 * share + delta * (1 - delta))
        return (up - down - n * delta) / math.sqrt(variance) if variance > 0 else 0.0

    def _crossing(self, low: float, high: float, z: float) -> float:
        """Where the statistic, which falls, crosses z."""
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._score(middle) > z else (low, middle)
        return (low + high) / 2


def unpaired(a: Score, b: Score) -> tuple[float, float, float]:
    """Accuracy of B less that of A, and its 95 % interval, as if each had had rows of its own.

    R. G. Newcombe, Statist. Med. 17 (1998) 873, method 10. On the same rows it is too wide.
    """
    d, (low_a, high_a), (low_b, high_b) = b.accuracy - a.accuracy, a.interval, b.interval
    down = math.hypot(b.accuracy - low_b, high_a - a.accuracy)
    up = math.hypot(high_b - b.accuracy, a.accuracy - low_a)
    return d, d - down, d + up


def holm(found: Mapping[str, float]) -> dict[str, float]:
    """p of several tests at once, each so raised that together they err as seldom as one.

    S. Holm, Scand. J. Statist. 6 (1979) 65.
    """
    raised, most = {}, 0.0
    for rank, (name, p) in enumerate(sorted(found.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(found) - rank) * p))
        raised[name] = most
    return {name: raised[name] for name in found}


def _tails(k: int, n: int) -> float:
    """Both tails of n tosses with k heads or fewer in one of them."""
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
