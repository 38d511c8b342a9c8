"""What `edgevlm eval --json` said, as far as a report shows it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgevlm.devices.report.loose import Count, How, Loose, Moment, Name

__all__ = ["Eval", "Score"]


class Score(Loose):
    n: Count
    correct: Count = 0
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class Classes(Loose):
    asked: Annotated[tuple[Name, ...], Field(max_length=100_000)] = ()
    of_dataset: Count = 0


class Eval(Loose):
    dataset: Name
    split: Name
    overall: Score
    kinds: Annotated[dict[Name, Score], Field(max_length=100_000)] = {}
    classes: Classes = Classes()
    metric: Name = ""
    how: How
    at: Moment | None = None

    @property
    def asked(self) -> str:
        """What was asked, in words; two evaluations of the same can be compared."""
        some = len(self.classes.asked)
        of = f" ({some} of {self.classes.of_dataset} classes)"
        return f"{self.dataset} {self.split}{of if some < self.classes.of_dataset else ''}"

    @property
    def key(self) -> tuple[str, ...]:
        """The same questions by the same measure, but for how many."""
        partial = len(self.classes.asked) < self.classes.of_dataset
        return (self.asked, self.metric, *(sorted(self.classes.asked) if partial else ()))
