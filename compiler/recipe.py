"""A recipe: the ordered passes of one compile, with their options. TOML; travels in the bundle.

schema = 1
target = "cpu"

[[pass]]
name = "keep-tokens"
keep = 16
method = "dart"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.texts import read_small

__all__ = ["Recipe", "Step"]

SCHEMA = 1
MAX_BYTES = 2**20


@dataclass(frozen=True)
class Step:
    """One pass by name, with the options that differ from its defaults."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    target: str
    steps: tuple[Step, ...]

    def to_toml(self) -> str:
        head = tomli_w.dumps({"schema": SCHEMA, "target": self.target})
        rows = [tomli_w.dumps({"pass": {"name": s.name, **s.options}}) for s in self.steps]
        # as a person would write it: tomli_w itself puts short tables on one line each
        return "\n".join([head, *(row.replace("[pass]", "[[pass]]", 1) for row in rows)])

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe") -> Recipe:
        """Raises EV205 (UsageFault) for text that is no recipe."""
        try:
            data = tomllib.loads(text)
            schema = data.pop("schema")
            if type(schema) is not int or schema != SCHEMA:  # in Python, True == 1.0 == 1
                raise ValueError(f"schema must be {SCHEMA}")
            target, rows = data.pop("target"), data.pop("pass", [])
            if data:
                raise ValueError(f"unknown key {next(iter(data))!r}")
            steps = tuple(Step(row.pop("name"), row) for row in rows)
            if not isinstance(target, str) or not all(isinstance(s.name, str) for s in steps):
                raise ValueError("target and pass names must be strings")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"missing {error}" if isinstance(error, KeyError) else str(error)
            raise UsageFault(
                "EV205",
                f"{where} is not a recipe",
                why,
                "edgevlm compile --help  shows one; docs/recipes.md has the schema",
            ) from error
        return cls(target, steps)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        try:
            text = read_small(path, MAX_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageFault(
                "EV205",
                f"recipe {path.name} cannot be read",
                str(error),
                "give --recipe a TOML file",
            ) from error
        return cls.from_toml(text, path.name)
