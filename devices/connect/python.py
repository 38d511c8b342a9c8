"""The Python of a device: the one that its user names, that of ~/.edgevlm, or python3."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.session import Device

__all__ = ["Python", "Wanted", "check_python", "find_python", "set_up", "unfit"]

#: a virtual environment, since systems forbid pip to touch their own Python (PEP 668)
OWN = "$HOME/.edgevlm"
PROBE = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except Exception:
        found[name] = None
print(json.dumps({"path": sys.executable, "version": sys.version_info[:3], "packages": found}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter there, and the packages that were asked after."""

    path: str
    version: tuple[int, ...]
    packages: dict[str, str | None]

    @property
    def lacks(self) -> list[str]:
        return [name for name, version in self.packages.items() if version is None]


def find_python(device: Device, packages: Sequence[str], named: str | None = None) -> Python | None:
    """The first that there is, whatever it lacks; None where there is none. Raises as `ask`."""
    first = [shlex.quote(named)] if named else [f'"{OWN}/bin/python"', "python3"]
    for candidate in first:
        line = f"{candidate} -c {shlex.quote(PROBE)} {shlex.join(packages)}"
        reply = device.ask(line)
        if reply.status == 0 and (found := _parsed(reply.text)):
            return found
    return None


@dataclass(frozen=True)
class Wanted:
    """What runs bundles of a runtime: packages, the least Python, and the system's own beside."""

    packages: tuple[str, ...]
    least: tuple[int, int]
    of_the_system: bool = False


def check_python(device: Device, wanted: Wanted, named: str | None = None) -> Python:
    """One that can run the bundle. Raises EV433."""
    found = find_python(device, wanted.packages, named)
    why = unfit(found, wanted.least, named)
    if not why:
        return found
    raise JobFault(
        "EV433", f"{device.address} lacks what runs the bundle", why, set_up(device, wanted)
    )


def unfit(found: Python | None, least: tuple[int, int], named: str | None = None) -> str | None:
    """Why it cannot run a bundle; None where it can."""
    if found is None:
        return f"{named or 'python3'} does not run there"
    if found.version < least:
        version, oldest = (".".join(map(str, each)) for each in (found.version, least))
        return f"its Python is {version}, {oldest} is the least"
    return f"{found.path} has no {', no '.join(found.lacks)}" if found.lacks else None


def set_up(device: Device, wanted: Wanted) -> str:
    """The command that brings it, for people."""
    also = "--system-site-packages " if wanted.of_the_system else ""
    packages = " ".join(wanted.packages)
    line = f"python3 -m venv {also}~/.edgevlm && ~/.edgevlm/bin/pip install {packages}"
    if device.connection.kind == "ssh":
        return f"ssh {device.address} '{line}'"
    return f"{line}, on the device"


def _parsed(text: str) -> Python | None:
    try:
        data: Any = json.loads(text)
        version = tuple(int(each) for each in data["version"])
        packages = {str(k): None if v is None else str(v) for k, v in data["packages"].items()}
        return Python(str(data["path"]), version, packages)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
