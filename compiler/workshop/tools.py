"""The tools of tools.toml, read and checked."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
import tomllib
from importlib import resources
from typing import Annotated

from packaging.requirements import Requirement
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgevlm.compiler.errors import UsageFault

__all__ = ["Tool", "find_tool", "tools"]


def _requirement(text: str) -> str:
    Requirement(text)
    return text


def _pinned(text: str) -> str:
    versions = list(Requirement(text).specifier)
    if len(versions) != 1 or versions[0].operator != "==" or "*" in versions[0].version:
        raise ValueError(f"{text} is not pinned to one version")
    return text


Pin = Annotated[str, AfterValidator(_pinned)]
Range = Annotated[str, AfterValidator(_requirement)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$", max_length=20)]


class Tool(BaseModel):
    """One environment; the fields are explained at the head of tools.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    purpose: str
    extra: Name | None = None
    here: list[Range]
    python: str  # a range of versions
    machines: list[Annotated[str, Field(pattern=r"^\w+ \w+$")]]
    glibc: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None
    mb: Annotated[int, Field(gt=0)]
    first: list[Pin]
    packages: list[Pin]
    proof: list[Annotated[str, Field(pattern=r"^[\w.]+$")]]

    @property
    def install(self) -> str:
        """The call that makes it."""
        return f"edgevlm doctor --install {self.name}"

    def digest(self) -> str:
        """Of all that decides what is in it: the pins, the Python, the machine."""
        told = {
            "first": self.first,
            "packages": self.packages,
            "python": list(sys.version_info[:2]),
            "machine": [platform.system(), platform.machine()],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    bridge: list[Pin]
    tool: list[Tool]


@functools.cache
def tools() -> dict[str, Tool]:
    """All of them by name, in the order of the file; each with the packages of the bridge."""
    text = (resources.files("edgevlm.compiler.workshop") / "tools.toml").read_text("utf-8")
    file = _File.model_validate(tomllib.loads(text))
    return {
        tool.name: tool.model_copy(update={"packages": [*tool.packages, *file.bridge]})
        for tool in file.tool
    }


def find_tool(name: str) -> Tool:
    """Raises EV370 for a name that is none."""
    if name not in tools():
        known = ", ".join(tools())
        raise UsageFault(
            "EV370",
            f"there is no tool called {name[:60]!r}",
            f"environments can be made of {known}",
            "edgevlm doctor --install " + next(iter(tools())),
        )
    return tools()[name]
