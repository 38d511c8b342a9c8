"""Count right answers, overall and by kind, and say how sure the count is.

An accuracy without its interval invites a conclusion from noise: with 200 questions, 90 % and 94 %
may well be the same model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Score", "Tally", "exact_match"]

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def exact_match(prediction: str, answer: str) -> bool:
    """Whether both say the same, apart from case, white space and one full stop at the end."""
    return _plain(prediction) == _plain(answer)


@dataclass(frozen=True)
class Score:
    """`correct` of `n` answers were right."""

    n: int
    correct: int

    @property
    def accuracy(self) -> float:
        """The share that was right, 0..1; not a number when nothing was asked."""
        return self.correct / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % interval of the accuracy; (0, 1) when nothing was asked.

        E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209: unlike p +- 1.96 s it is never empty at
        0 % or 100 % and never leaves 0..1.
        """
        if not self.n:
            return 0.0, 1.0
        share, z2 = self.accuracy, Z_95**2
        centre = share + z2 / (2 * self.n)
        spread = Z_95 * math.sqrt(share * (1 - share) / self.n + z2 / (4 * self.n**2))
        low, high = ((centre + sign * spread) / (1 + z2 / self.n) for sign in (-1, 1))
        # The bounds are exact at 0 and 1, where rounding may put the point just outside.
        return max(0.0, min(low, share)), min(1.0, max(high, share))

    def as_json(self) -> dict[str, float | int | None]:
        """Accuracy, interval and counts; `accuracy` is None when nothing was asked."""
        low, high = self.interval
        return {
            "n": self.n,
            "correct": self.correct,
            "low": low,
            "high": high,
            "accuracy": self.accuracy if self.n else None,
        }


@dataclass
class Tally:
    """Add answers one by one; read `overall` and `by_kind` at any time."""

    _counts: dict[str, list[int]] = field(default_factory=dict)  # kind -> [n, correct]
    rows: list[tuple[str, bool]] = field(default_factory=list)  # of each answer: kind, right

    def add(self, prediction: str, answer: str, kind: str) -> bool:
        """Count one answer under `kind`; returns whether it was right."""
        right = exact_match(prediction, answer)
        count = self._counts.setdefault(kind, [0, 0])
        count[0] += 1
        count[1] += right
        self.rows.append((kind, right))
        return right

    @property
    def overall(self) -> Score:
        """All kinds together."""
        return Score(
            sum(n for n, _ in self._counts.values()),
            sum(correct for _, correct in self._counts.values()),
        )

    @property
    def by_kind(self) -> dict[str, Score]:
        """One score a kind that was asked, in alphabetical order."""
        return {kind: Score(*self._counts[kind]) for kind in sorted(self._counts)}

    def as_json(self) -> dict[str, dict]:
        """Plain data for a report: {"overall": ..., "kinds": {kind: ...}}."""
        return {
            "overall": self.overall.as_json(),
            "kinds": {kind: score.as_json() for kind, score in self.by_kind.items()},
        }


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()
