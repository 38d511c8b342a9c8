"""A device over ssh: the system's own client, so its keys, jump hosts and ~/.ssh/config all hold.

The device's key must be known: an unknown or a changed one ends the call. Nobody is asked for a
password in the middle of a measurement.
"""

from __future__ import annotations

from edgevlm.devices.connect.connection import Connection, LinkLost

__all__ = ["CONNECT_S", "Ssh"]

CONNECT_S = 10  # seconds until a host that does not answer counts as unreachable
#: three questions of 5 s without an answer, and the link counts as cut
OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    f"ConnectTimeout={CONNECT_S}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "LogLevel=ERROR",
)
#: what OpenSSH's client says -> what it means, and what kind of loss that is
COMPLAINTS = (
    (
        "HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one known for it",
        "refused",
    ),
    ("Host key verification failed", "its host key is not known on this machine", "refused"),
    ("Permission denied", "it accepts no key of this user", "refused"),
    (
        "Too many authentication failures",
        "it accepts none of the keys offered",
        "refused",
    ),
    ("Could not resolve hostname", "there is no host of that name", "unknown"),
    ("Bad configuration option", "the ssh configuration of this machine is broken", "unknown"),
    ("Connection refused", "no ssh server answers at that port", "away"),
    ("timed out", f"no answer within {CONNECT_S} s", "away"),
    ("No route to host", "there is no route to it", "away"),
)


class Ssh(Connection):
    kind = "ssh"
    home = '"${XDG_CACHE_HOME:-$HOME/.cache}"/edgevlm-device'

    def __init__(self, host: str, user: str | None = None, port: int | None = None) -> None:
        self.target = f"{user}@{host}" if user else host
        self.port = port
        shown = f"[{host}]" if ":" in host else host
        address = f"ssh://{user}@{shown}" if user else f"ssh://{shown}"
        super().__init__(f"{address}:{port}" if port else address)

    def argv(self, line: str) -> list[str]:
        options = [part for each in OPTIONS for part in ("-o", each)]
        port = ["-p", str(self.port)] if self.port else []
        return ["ssh", "-T", *options, *port, "--", self.target, line]

    def complaint(self, said: str) -> LinkLost:
        for words, why, kind in COMPLAINTS:
            if words in said:
                return LinkLost(why, kind)
        last = said.splitlines()[-1] if said else ""
        return LinkLost(last or "the connection was cut")
