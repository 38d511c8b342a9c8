"""What a user writes for a device that is somewhere else."""

from __future__ import annotations

import re

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.connect.adb import Adb
from edgevlm.devices.connect.connection import Connection
from edgevlm.devices.connect.ssh import Ssh

__all__ = ["connection_to", "is_address"]

# Neither may begin with a dash: it would be an option of the client.
_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_ADB = re.compile(r"adb(?::(?P<serial>[A-Za-z0-9][A-Za-z0-9._:-]*))?")


def is_address(device: str) -> bool:
    """Whether `device` names a way to a device, and not an entry of devices/data."""
    return device == "adb" or ":" in device


def connection_to(device: str) -> Connection:
    """ssh://[user@]host[:port], adb:SERIAL, or adb where one is connected. Raises EV430."""
    if found := _SSH.fullmatch(device):
        port = int(found["port"]) if found["port"] else None
        if port is None or 1 <= port <= 65535:
            return Ssh(found["ip6"] or found["host"], found["user"], port)
    elif found := _ADB.fullmatch(device):
        return Adb(found["serial"])
    raise UsageFault(
        "EV430",
        f"no address of a device: {device[:200]}",
        "it is ssh://USER@HOST, with :PORT where it is not 22, or adb:SERIAL",
        "edgevlm profile --help",
    )
