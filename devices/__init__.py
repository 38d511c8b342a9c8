"""The devices edgevlm knows: one TOML file each in `devices/data`, found by id or alias.

Adding a device needs no code: put `<id>.toml` into the folder and it is listed. Nothing heavy is
imported here, so that `edgevlm devices list` answers at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.schema import Device, parse_device

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # novm: 3.11

__all__ = ["Device", "find_device", "list_devices", "read_devices"]


def list_devices() -> tuple[Device, ...]:
    """Every device that ships, sorted by id. Raises JobFault EV401 for a broken file."""
    return read_devices(resources.files("edgevlm.devices.data"))


def find_device(name: str) -> Device:
    """The device with this id or alias; upper and lower case are the same.

    Raises UsageFault EV301 for an unknown name, with up to three that are near.
    """
    return _find(name, list_devices())


def read_devices(folder: Traversable) -> tuple[Device, ...]:
    """The `*.toml` files of one folder. Raises JobFault EV401, also for a name in two files."""
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".toml")),
        key=lambda item: item.name,
    )
    found = (parse_device(_text(file), file.name) for file in files)
    devices = tuple(sorted(found, key=lambda device: _natural(device.id)))
    owner: dict[str, str] = {}
    for device in devices:
        for name in (device.id, *device.aliases):
            if name in owner:
                raise JobFault(
                    "EV401",
                    f"device file {device.id}.toml, field aliases",
                    f"the name {name} already belongs to {owner[name]}.toml",
                    f"give {name} to one of the two, then run `edgevlm devices list`",
                )
            owner[name] = device.id
    return devices


def _find(name: str, devices: Iterable[Device]) -> Device:
    by_name = {known: device for device in devices for known in (device.id, *device.aliases)}
    wanted = name.strip().lower()
    if wanted in by_name:
        return by_name[wanted]
    near = difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageFault(
        "EV301",
        f"unknown target {name!r}",
        f"no device file has this id or alias{guess}",
        "edgevlm devices list",
    )


def _natural(name: str) -> list[tuple[str, int]]:
    """To sort by: runs of digits count as numbers, so that 32 comes before 128."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _text(file: Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobFault(
            "EV401",
            f"device file {file.name}, the file as a whole",
            f"it cannot be read as UTF-8 text ({type(error).__name__})",
            "install edgevlm again, or restore the file",
        ) from None
