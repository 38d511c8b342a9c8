"""The grid of a sweep: `--over KEY=VALUE,...` -> points, each the options of one compile.

    --over prune=dart,random:seed=1         two methods; --over prune=... once more adds to them
    --over prune=zip:extra=4,width=2,dart   two methods: `name=value` behind a comma is one more
                                            option of the method in front of it
    --over tokens=50%,25%                   two budgets
    --over tokens=50%+25%                   one schedule for two sites, as --tokens 50%,25%
    --over prune-at=vision-out,llm:2+llm:4  one site; two sites
    --over "tokens=50%,25%;25%,10%"         two such schedules: with a `;`, only `;` separates

The points are the product of all axes, the last axis turning fastest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from edgevlm.compiler.errors import UsageFault

__all__ = ["AXES", "BASELINE", "MAX_POINTS", "Axis", "Point", "read_grid"]

BASELINE = "baseline"
MAX_POINTS = 1000
OPTION = re.compile(r"[\w-]+=")  # how an item that continues a method begins
MISTAKE = "edgevlm sweep MODEL --target cpu --over tokens=32,16 -o sweep"


@dataclass(frozen=True)
class Axis:
    """What one key of `--over` varies."""

    keyword: str  # of `options_of`
    read: Callable[[str], Any] = str  # a value as `options_of` wants it; or ValueError
    tokens: bool = False  # part of token reduction, so the baseline goes without
    options: bool = False  # its values are METHOD[:option=value,...]
    sites: bool = False  # its values are lists, one entry a site


def _length(text: str) -> int:
    """The range of `edgevlm compile`."""
    if not text.isdecimal() or not 1 <= int(text) <= 8192:
        raise ValueError("it is no number of tokens from 1 to 8192")
    return int(text)


def _decibels(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("it is no number of dB") from None


#: one line a key; a key that is not here cannot be swept over
AXES: dict[str, Axis] = {
    "prune": Axis("prune", tokens=True, options=True),
    "prune-at": Axis("prune_at", tokens=True, sites=True),
    "tokens": Axis("tokens", tokens=True, sites=True),
    "positions": Axis("positions", tokens=True),
    "quant": Axis("quant"),
    "kv": Axis("kv"),
    "max-prompt": Axis("max_prompt", _length),
    "max-answer": Axis("max_answer", _length),
    "min-sqnr": Axis("min_sqnr", _decibels),
}


@dataclass(frozen=True)
class Point:
    """One set of options; `name` and `slug` follow from it and are stable."""

    options: tuple[tuple[str, str], ...]  # (key of AXES, value), in the order of the axes
    baseline: bool = False

    @property
    def name(self) -> str:
        words = [f"{key}={value}" for key, value in self.options]
        return " ".join([BASELINE, *words] if self.baseline else words)

    @property
    def slug(self) -> str:
        """A file name: readable, and unlike that of any other point."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", self.name.replace("%", "pc")).strip("-.")
        digest = hashlib.sha256(json.dumps([self.baseline, self.options]).encode()).hexdigest()
        return f"{plain[:60]}-{digest[:8]}"

    @property
    def keywords(self) -> dict[str, Any]:
        """For `options_of`."""
        return {AXES[key].keyword: _value(key, value) for key, value in self.options}


def read_grid(over: Sequence[str], baseline: bool = True) -> list[Point]:
    """All points, the baseline first if there is to be one.

    The baseline takes the first value of every axis that is not part of token reduction; a point
    with the same options is the baseline and does not come twice. Raises EV221.
    """
    axes: dict[str, list[str]] = {}
    for text in over:
        key, values = _axis(text)
        axes[key] = list(dict.fromkeys([*axes.get(key, []), *values]))
    if not axes:
        raise UsageFault(
            "EV221", "a sweep over nothing", "it needs an axis to vary: --over KEY=VALUE", MISTAKE
        )
    size = 1
    for values in axes.values():
        size *= len(values)
    if size > MAX_POINTS:
        raise UsageFault(
            "EV221",
            f"a sweep of {size} points",
            f"more than {MAX_POINTS}: {' x '.join(f'{len(v)} {k}' for k, v in axes.items())}",
            "sweep one part of them at a time, into folders of their own",
        )
    pairs = [[(key, value) for value in values] for key, values in axes.items()]
    points = [Point(options) for options in itertools.product(*pairs)]
    if not baseline:
        return points
    rest = tuple((k, values[0]) for k, values in axes.items() if not AXES[k].tokens)
    return [Point(rest, True), *(p for p in points if p.options != rest)]


def _axis(text: str) -> tuple[str, list[str]]:
    """One `--over`: its key and its values, each of which can be read."""
    key, equals, rest = text.partition("=")
    key = key.strip()
    if key not in AXES:
        near = get_close_matches(key, AXES, n=1, cutoff=0.5)
        raise UsageFault(
            "EV221",
            f"--over {text[:80]}: {key[:40]!r} is nothing to sweep over",
            f"keys: {', '.join(AXES)}",
            f"did you mean --over {near[0]}={rest[:80] or '...'}?" if near else MISTAKE,
        )
    axis = AXES[key]
    separator = ";" if ";" in rest else ","
    values: list[str] = []
    for item in (part.strip() for part in rest.split(separator)):
        if not item or not equals:
            raise _unreadable(text, "a value is empty", f"--over {key}=VALUE,VALUE")
        if axis.options and separator == "," and OPTION.match(item):
            _continue(text, values, item)
        else:
            values.append(item)
    values = [value.replace("+", ",") if axis.sites else value for value in values]
    for value in values:
        _value(key, value)
    return key, values


def _continue(text: str, values: list[str], item: str) -> None:
    """`item` is an option of the last method."""
    if not values or ":" not in values[-1]:
        before = values[-1] if values else "METHOD"
        raise _unreadable(
            text, f"{item} is an option of no method", f"--over prune={before}:{item}"
        )
    method, _, given = values[-1].partition(":")
    name = item.partition("=")[0]
    if name in (option.partition("=")[0] for option in given.split(",")):
        raise _unreadable(
            text,
            f"{method} is given {name} twice",
            f"for two methods write both names: {values[-1]},{method}:{item}",
        )
    values[-1] += f",{item}"


def _value(key: str, value: str) -> Any:
    try:
        return AXES[key].read(value)
    except ValueError as error:
        raise _unreadable(
            f"{key}={value}", f"{value[:40]!r}: {error}", f"--over {key}=VALUE,VALUE"
        ) from None


def _unreadable(text: str, why: str, fix: str) -> UsageFault:
    return UsageFault("EV221", f"--over {text[:80]} cannot be read", why, fix)
