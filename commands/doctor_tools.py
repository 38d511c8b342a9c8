"""The tools of `edgevlm doctor`: which are here, and `--install NAME`, which makes one.

A tool that this environment has no packages for lives in one of its own (compiler/workshop).
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevlm.commands.doctor_checks import Check
from edgevlm.compiler.workshop.home import Environment, environment_of, tools_root
from edgevlm.compiler.workshop.interpreter import lacking_here
from edgevlm.compiler.workshop.tools import find_tool, tools

if TYPE_CHECKING:
    from edgevlm.commands.output import Speaker

__all__ = ["install_tool", "tool_checks"]


def tool_checks(runtime: str) -> Iterator[Check]:
    """One line a tool; one that is missing stops only the runtime of its name."""
    for tool in tools().values():
        place, lacking = environment_of(tool), lacking_here(tool)
        told = place.ready()
        found = "not installed" if lacking else "in this environment"
        if lacking and told:
            found = f"in an environment of its own: {shown(place)}, {told['bytes'] / 1e6:.0f} MB"
        yield Check(
            f"tool {tool.name}",
            True if told or not lacking else (False if tool.name == runtime else None),
            found,
            tool.purpose,
            None if told or not lacking else f"{tool.install} (about {tool.mb} MB)",
        )
    yield from _of_other_versions()


def install_tool(speaker: Speaker, name: str) -> dict[str, Any]:
    """Make the environment of tool `name`; at once where it is there. Raises EV370, EV371."""
    from edgevlm.compiler.workshop.build import make

    tool = find_tool(name)
    with speaker.stages(f"{tool.name}: {tool.purpose}") as begin:
        made = make(tool, begin, speaker.say)
    place, size = shown(made.environment), made.told["bytes"]
    said = f"made in {made.seconds:.0f} s" if made.new else "ready"
    speaker.say(f"{said}: {place}, {size / 1e6:.0f} MB")
    return {
        "tool": tool.name,
        "new": made.new,
        "seconds": made.seconds,
        "folder": place,
        "bytes": size,
        "python": made.told["python"],
        "packages": made.told["packages"],
    }


def shown(place: Environment) -> str:
    """Its folder, as a report may tell it."""
    return _public(place.folder)


def _of_other_versions() -> Iterator[Check]:
    """Environments of pins that are no longer asked for: a gigabyte each, kept till told."""
    root, known = tools_root(), {environment_of(tool).folder.name for tool in tools().values()}
    with contextlib.suppress(OSError):
        others = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name not in known]
        if others:
            yield Check(
                "tools, other versions",
                None,
                ", ".join(path.name for path in others),
                "nothing of this edgevlm; another version, or another Python",
                f"rm -r {' '.join(shlex.quote(path.name) for path in others)} in {_public(root)}",
            )


def _public(folder: Path) -> str:
    """With ~ for the user's own folder."""
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
