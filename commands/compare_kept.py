"""What `eval` and `profile` measured of two bundles before, where both were asked the same.

Kept evaluations say how many rows were right and not which, so that they are compared as if each
bundle had had rows of its own. Kept profiles of another device are times of different hours: they
stand side by side, and nothing is claimed of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.commands.kept import Kind, kept
from edgevlm.compiler.bundle import Bundle
from edgevlm.devices.host import Host
from edgevlm.models.datasets.paired import unpaired
from edgevlm.models.datasets.scoring import Score

__all__ = ["kept_evals", "kept_profiles"]


class _Kept(BaseModel):
    """A file of the cache; what does not look like it is passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    at: str = Field(max_length=40)
    n: int = Field(ge=1)


class _Count(BaseModel):
    n: int = Field(ge=1)
    correct: int = Field(ge=0)


class _Masked(BaseModel):
    overall: _Count


class _Classes(BaseModel):
    asked: list[str]
    of_bundle: int


class _Eval(_Kept):
    dataset: str = Field(max_length=100)
    split: str = Field(max_length=100)
    metric: str = Field(max_length=200)
    how: str = Field(max_length=60)
    overall: _Count
    masked: _Masked | None = None
    classes: _Classes | None = None

    @property
    def score(self) -> Score:
        """Held to the classes asked for, where there are any: the base may say no others."""
        told = self.masked.overall if self.masked else self.overall
        return Score(told.n, min(told.correct, told.n))

    @property
    def key(self) -> str:
        """Equal where two were asked the same rows, and could say the same of them."""
        of = None if self.masked or not self.classes else self.classes.of_bundle
        asked = self.classes.asked if self.classes else None
        return json.dumps([self.dataset, self.split, self.metric, self.n, asked, of])


class _Where(BaseModel):
    model_config = ConfigDict(extra="ignore")

    cpu_model: str | None = None
    architecture: str = ""
    cores: int | None = None


class _Stage(BaseModel):
    how: str = Field(max_length=60)


class _Profile(_Kept):
    host: _Where
    stages: dict[str, _Stage] = {}
    fps: float | None = None
    ttft_ms: float | None = None
    tokens_per_s: float | None = None
    answers_per_s: float | None = None

    @property
    def name(self) -> str:
        """Of the device: its processor, as it calls itself."""
        return (self.host.cpu_model or self.host.architecture)[:200]

    @property
    def key(self) -> str:
        return json.dumps(list(vars(self.host).values()))

    @property
    def how(self) -> str | None:
        return next((stage.how for stage in self.stages.values()), None)


Entry = TypeVar("Entry", _Eval, _Profile)


def kept_evals(a: Bundle, b: Bundle) -> list[dict[str, Any]]:
    """Unpaired comparisons of the newest evaluations of each kind that both have."""
    found = []
    for before, after in _both("eval", _Eval, a, b, lambda entry: entry.key):
        d, low, high = unpaired(before.score, after.score)
        told = "better" if low > 0 else "worse" if high < 0 else "none"
        sides = {
            key: {"accuracy": side.score.accuracy, "correct": side.score.correct, "at": side.at}
            for key, side in (("a", before), ("b", after))
        }
        found.append(
            {
                "dataset": after.dataset,
                "split": after.split,
                "n": after.score.n,
                **sides,
                "points": 100 * d,
                "low": 100 * low,
                "high": 100 * high,
                "verdict": told,
                "paired": False,
                "how": after.how,
            }
        )
    return found


def kept_profiles(a: Bundle, b: Bundle, here: Host) -> list[dict[str, Any]]:
    """The newest profiles that both have of any device but this machine."""
    this = _Where(**here.as_json())
    figures = ("fps", "ttft_ms", "tokens_per_s", "answers_per_s", "n", "at", "how")
    return [
        {
            "device": after.name,
            "a": {name: getattr(before, name) for name in figures},
            "b": {name: getattr(after, name) for name in figures},
        }
        for before, after in _both("profile", _Profile, a, b, lambda entry: entry.key)
        if after.host != this
    ]


def _both(
    kind: Kind, form: type[Entry], a: Bundle, b: Bundle, key: Callable[[Entry], str]
) -> list[tuple[Entry, Entry]]:
    """The newest of each key, where both bundles have it."""
    sides: list[dict[str, Entry]] = []
    for bundle in (a, b):
        newest: dict[str, Entry] = {}
        for data in kept(kind, bundle):
            try:
                entry = form.model_validate(data)
            except ValidationError:
                continue
            newest.setdefault(key(entry), entry)
        sides.append(newest)
    return [(sides[0][k], entry) for k, entry in sides[1].items() if k in sides[0]]
