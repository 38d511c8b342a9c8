"""Which Python has a tool: this one where its packages are installed, else the tool's own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop.home import environment_of
from edgevlm.compiler.workshop.tools import Tool, find_tool

__all__ = ["Interpreter", "interpreter_for", "lacking_here"]


@dataclass(frozen=True)
class Interpreter:
    """`own`: it is the one that runs now."""

    tool: str
    python: Path
    own: bool

    @property
    def argv(self) -> list[str]:
        """How it is called. Another one hears nothing of PYTHONPATH and the user's site folder.

        -P: a folder called edgevlm, or numpy, where the caller stands is not the package.
        """
        return [str(self.python), "-P" if self.own else "-I"]

    @property
    def environ(self) -> dict[str, str]:
        """For it and all that it starts."""
        hidden = () if self.own else ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
        return {key: value for key, value in os.environ.items() if key not in hidden}

    @property
    def where(self) -> str:
        """For a sentence."""
        return "this environment" if self.own else f"the environment of {self.tool}"


def interpreter_for(name: str) -> Interpreter:
    """Raises EV370 for a tool that is none, EV302 where neither has it."""
    tool = find_tool(name)
    lacking = lacking_here(tool)
    if not lacking:
        return Interpreter(tool.name, Path(sys.executable), own=True)
    place = environment_of(tool)
    if place.ready():
        return Interpreter(tool.name, place.python, own=False)
    or_here = f", or pip install 'edgevlm[{tool.extra}]'" if tool.extra else ""
    raise JobFault(
        "EV302",
        f"the tool {tool.name} is not installed ({tool.purpose})",
        f"this environment lacks {', '.join(lacking[:3])}, and the tool has none of its own",
        tool.install + or_here,
    )


def lacking_here(tool: Tool) -> list[str]:
    """What of `tool.here` this environment does not have; nothing is imported to find out."""
    lacking = [text for text in tool.here if not _installed(Requirement(text))]
    modules = {name.partition(".")[0] for name in tool.proof}
    return lacking or sorted(name for name in modules if not _found(name))


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a finder that refuses; a module without a spec
        return False


def _installed(wanted: Requirement) -> bool:
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False
