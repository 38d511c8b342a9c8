"""Where the environments of tools are, and which of them are ready.

<cache>/tools/ethos-3f9c01d2a4b7/            the digest: pins, Python, machine
                bin/python                   a venv, made in place: it holds its own path
                ready.json                   written last; without it, it is half-made
<cache>/tools/ethos-3f9c01d2a4b7.lock        held while one is made
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.workshop.tools import Tool, tools

__all__ = ["Environment", "environment_of", "has_environment", "tools_root"]

_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Environment:
    """A place for one tool, whether or not it has been made."""

    tool: Tool
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / "ready.json"

    @property
    def lock(self) -> Path:
        return self.folder.with_name(self.folder.name + ".lock")

    def ready(self) -> dict[str, Any] | None:
        """What was written when it was whole: {"packages": {name: version}, "bytes": int}.

        None where it is not there, half-made, or its Python is gone (a link to one that was
        upgraded away).
        """
        if not os.access(self.python, os.X_OK):
            return None
        try:
            with self.stamp.open("rb") as file:
                told = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return None
        whole = isinstance(told, dict) and {"packages", "bytes"} <= set(told)
        return told if whole else None


def tools_root() -> Path:
    """$EDGEVLM_TOOLS, else the folder tools of the cache; absolute."""
    given = os.environ.get("EDGEVLM_TOOLS")
    return (Path(given) if given else cache_root() / "tools").absolute()


def environment_of(tool: Tool) -> Environment:
    """Its place; the folder need not exist."""
    return Environment(tool, tools_root() / f"{tool.name}-{tool.digest()}")


def has_environment(name: str) -> bool:
    """Whether there is a tool of this name, and an environment of its own is ready."""
    return name in tools() and environment_of(tools()[name]).ready() is not None
