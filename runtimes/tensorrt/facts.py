"""The table of what TensorRT takes, read from facts.toml: releases, chips, limits, JetPacks.

Nothing is made up for a release that is not listed: it is taken for the newest one below it.
"""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Chip", "Facts", "Jetpack", "Limit", "Release", "facts", "parsed"]

Version = Annotated[str, Field(pattern=r"^\d+(\.\d+){0,3}$", max_length=20)]


class _Known(BaseModel):
    """Something somebody stands for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    how: Literal["run", "documented", "memory"]
    source: Annotated[str, Field(pattern=r"^https://\S+$", max_length=300)]


class Release(_Known):
    version: Version
    opset: int
    lacks: list[str] = []  # ops of ONNX that it does not know
    adds: list[str] = []  # and that those below lack


class Chip(_Known):
    sm: int  # compute capability times ten
    name: str
    types: list[str]  # of products, ONNX names
    proxy: str | None = None  # what tensorrt-rtx builds for in its place


class Limit(_Known):
    name: str
    text: str
    value: int | None = None


class Jetpack(_Known):
    version: Version
    tensorrt: Version
    python: Version
    sms: list[int]


class Facts(BaseModel):
    """All of it; entries of a kind by rising version."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    releases: list[Release]
    limits: list[Limit]
    chips: list[Chip]
    jetpacks: list[Jetpack]

    def chip(self, sm: int) -> Chip | None:
        return next((each for each in self.chips if each.sm == sm), None)

    def limit(self, name: str) -> Limit:
        return next(each for each in self.limits if each.name == name)

    def jetpack(self, version: str) -> Jetpack | None:
        """The newest that is no newer, of the same major version."""
        wanted = parsed(version)
        older = [j for j in self.jetpacks if parsed(j.version) <= wanted]
        return older[-1] if older and parsed(older[-1].version)[0] == wanted[0] else None

    def release(self, version: str) -> tuple[Release, frozenset[str]] | None:
        """The newest listed that is no newer, and the ops that it lacks; None below the oldest."""
        older = [r for r in self.releases if parsed(r.version) <= parsed(version)]
        if not older:
            return None
        lacks = {op for each in older for op in each.lacks}
        return older[-1], frozenset(lacks - {op for each in older for op in each.adds})


def parsed(version: str) -> tuple[int, ...]:
    """To compare by, four numbers: 10.13 is newer than 10.3, and 10 is 10.0."""
    numbers = map(int, version.split("."))
    return (*numbers, 0, 0, 0)[:4]


@functools.cache
def facts() -> Facts:
    text = (resources.files("edgevlm.runtimes.tensorrt") / "facts.toml").read_text("utf-8")
    return Facts.model_validate(tomllib.loads(text))
