"""A phone or board over the Android debug bridge: `adb` of the platform tools.

Version 2 of its shell (Android 7 and later) keeps stdin, stdout and stderr apart and binary; `-T`
asks for no terminal, which would turn every newline into two bytes.
https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt
"""

from __future__ import annotations

from edgevlm.devices.connect.connection import Connection, LinkLost

__all__ = ["Adb"]

#: what adb's client says -> what it means, and what kind of loss that is
COMPLAINTS = (
    (
        "unauthorized",
        "it has not allowed this computer: its screen asks",
        "refused",
    ),
    ("more than one device", "there are several; say which: adb:SERIAL", "unknown"),
    ("no permissions", "this user may not open it (udev rules, group plugdev)", "refused"),
    ("no devices", "no device is connected", "away"),
    ("not found", "no device with that serial number is connected", "away"),
    ("offline", "it is connected and does not answer", "away"),
    ("cannot connect to daemon", "the adb server cannot be started", "unknown"),
    ("failed to check server version", "the adb server cannot be started", "unknown"),
)


class Adb(Connection):
    kind = "adb"
    home = "/data/local/tmp/edgevlm-device"  # the one folder of a phone where adb may run things

    def __init__(self, serial: str | None = None) -> None:
        self.serial = serial
        super().__init__(f"adb:{serial}" if serial else "adb")

    def argv(self, line: str) -> list[str]:
        return ["adb", *(("-s", self.serial) if self.serial else ()), "shell", "-T", line]

    def complaint(self, said: str) -> LinkLost:
        for words, why, kind in COMPLAINTS:
            if words in said:
                return LinkLost(why, kind)
        last = said.splitlines()[-1] if said else ""
        return LinkLost(last.removeprefix("error: ") or "the connection was cut")
