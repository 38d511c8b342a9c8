"""The sets of classes that a fleet is derived for, as `--class-sets FILE` has them.

[[set]]
name = "kitchen"            # of the bundle: OUT/kitchen.edgevlm
classes = ["cup", "plate"]
alpha = 0.6                 # or latency-budget = "5ms"; else --alpha
target = "jetson"           # else each of --targets
quant = "w8a8"              # quant, tokens and prune as `edgevlm compile` takes them
"""

from __future__ import annotations

import shlex
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.compiler.texts import read_small

__all__ = ["ClassSet", "of_set", "read_sets"]

MAX_BYTES = 4 * 2**20
Text = Annotated[str, Field(min_length=1, max_length=200)]


class ClassSet(BaseModel):
    """One [[set]]; None where it leaves something to the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    #: a file name on every file system, and no option of a command
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    classes: tuple[Text, ...] = Field(strict=False, min_length=1, max_length=100_000)
    alpha: float | None = None
    latency_budget: Text | None = Field(None, alias="latency-budget")
    target: Text | None = None
    quant: Text | None = None
    tokens: Text | int | None = None
    prune: Text | None = None
    purify: int | None = Field(None, ge=1, le=1_000_000)  # steps of training
    recover: int | None = Field(None, ge=1, le=1_000_000)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    set: tuple[ClassSet, ...] = Field(strict=False, min_length=1, max_length=10_000)


def read_sets(path: Path) -> tuple[ClassSet, ...]:
    """Raises EV222: the file cannot be read or followed, or two sets have one name."""
    try:
        sets = _File.model_validate(tomllib.loads(read_small(path, MAX_BYTES))).set
    except ValidationError as error:
        raise _bad(path, _first(error, path)) from error
    except (OSError, ValueError, RecursionError) as error:  # TOML's and Unicode's are ValueErrors
        raise _bad(path, getattr(error, "strerror", None) or str(error)) from error
    twice = [n for n, count in Counter(s.name.casefold() for s in sets).items() if count > 1]
    if twice:
        raise _bad(path, f"two sets are called {twice[0]!r}, and would be one bundle")
    return sets


def of_set(name: str, fault: EdgeError) -> EdgeError:
    """The same fault, with the set that it is of."""
    return type(fault)(fault.code, f"set {name!r}: {fault.what}", fault.why, fault.fix)


def _bad(path: Path, why: str) -> UsageFault:
    return UsageFault(
        "EV222",
        f"--class-sets {path.name[:100]}",
        why[:300],
        f"edit {shlex.quote(str(path))}; docs/derivation.md shows such a file",
    )


def _first(error: ValidationError, path: Path) -> str:
    """The first thing that is wrong, with the name of its set where it has one."""
    first = error.errors()[0]
    place, value = first["loc"], first["input"]
    if place == ("set",):
        return "it has no [[set]]" if first["type"] == "missing" else str(first["msg"])
    where = ".".join(map(str, place[2:] or place))
    number = f"[[set]] number {place[1] + 1}: " if len(place) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = [f.alias or name for name, f in ClassSet.model_fields.items()]
        return f"{number}unknown key {where!r}; known: {', '.join(known)}"
    if where == "name" and first["type"] == "string_pattern_mismatch":
        return f"{number}name {value[:60]!r} is no file name: letters, digits and . _ - within it"
    return f"{number}{where}: {first['msg']}"
