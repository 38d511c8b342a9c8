"""A device that answered: what it is, our folder on it, and lines again after a link that broke.

Every line given to `ask` may be run twice: the link may break behind its end, before we hear of it.
What is asked for is made so that a second time does no harm.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import Connection, LinkLost, Reply

__all__ = ["Device", "Facts", "reach"]

PATIENCE_S = 60.0  # for a link that broke, until it is given up
BOOT = "/proc/sys/kernel/random/boot_id"
TOOLS = ("sha256sum", "tail", "tar", "setsid")
#: one `name=value` a line
HELLO = """LC_ALL=C; export LC_ALL
mkdir -p {home} && cd {home} && root=$(pwd -P) && chmod 700 "$root" || exit 3
echo "root=$root"; echo "architecture=$(uname -m)"; echo "system=$(uname -sr)"
echo "boot=$(cat {boot} 2>/dev/null)"
for each in {tools}; do command -v $each >/dev/null || echo "missing=$each"; done"""


@dataclass(frozen=True)
class Facts:
    """What a device said of itself."""

    root: str  # our folder, absolute
    architecture: str  # as its kernel names it: aarch64, x86_64
    system: str
    boot: str  # changes when it starts anew; "" where it does not say


class Device:
    """Made by `reach`."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.connection, self.facts = connection, facts
        self.patience_s, self._sleep = patience_s, sleep
        self.cuts = 0  # times that the link broke and came back

    @property
    def address(self) -> str:
        return self.connection.address

    def ask(self, line: str, feed: Callable[[], list[bytes]] = list) -> Reply:
        """Run a line that may be run twice. Raises JobFault EV432, EV436."""
        while True:
            try:
                return self.connection.run(line, feed())
            except LinkLost as lost:
                self.back(lost)

    def must(self, line: str, doing: str, feed: Callable[[], list[bytes]] = list) -> Reply:
        """`ask` for what has to succeed. Raises JobFault EV435 (no room), EV439 too."""
        return self.succeeded(self.ask(line, feed), doing)

    def succeeded(self, reply: Reply, doing: str) -> Reply:
        """The reply of a line that had to succeed. Raises JobFault EV435 (no room), EV439."""
        if reply.status:
            raise self.refusal(doing, reply.err)
        return reply

    def free_bytes(self) -> int:
        """Of the file system of our folder. Raises as `must`."""
        reply = self.must(f"df -Pk {shlex.quote(self.facts.root)}", "reading its free space")
        # file system, 1024-blocks, used, available, capacity, mounted on
        numbers = [int(word) for word in reply.text.split("\n", 1)[-1].split() if word.isdigit()]
        if len(numbers) < 3:
            raise self.refusal("reading its free space", reply.text)
        return numbers[2] * 1024

    def back(self, lost: LinkLost) -> None:
        """Wait until the device answers again. Raises JobFault EV432, EV436."""
        if lost.kind != "away":
            raise JobFault(
                "EV432",
                f"{self.address} lets us in no more",
                lost.why,
                "mend that, then the same call: what was copied is still there",
            )
        pause, waited = 0.5, 0.0
        while waited < self.patience_s:
            self._sleep(pause)
            waited += pause
            pause = min(2 * pause, 8.0)
            try:
                again = self.connection.run(f"cat {BOOT} 2>/dev/null; true").text.strip()
            except LinkLost as still:
                lost = still
                continue
            if again != self.facts.boot:
                raise JobFault(
                    "EV436",
                    f"{self.address} was started anew meanwhile",
                    "what ran there is gone, and no half of it is a result",
                    "the same call again; if it happens again, look at its power supply",
                )
            self.cuts += 1
            return
        raise self.broken(f"{lost.why}; it did not come back within {self.patience_s:g} s")

    def broken(self, why: str) -> JobFault:
        """What a link that will not hold means."""
        return JobFault(
            "EV436",
            f"the link to {self.address} broke",
            why,
            "the same call again: what was copied is still there",
        )

    def refusal(self, doing: str, said: str) -> JobFault:
        """What a line that failed there means."""
        last = said.splitlines()[-1][-300:] if said else "it did not say why"
        if "No space left" in said or "Disk quota exceeded" in said:
            return JobFault(
                "EV435",
                f"{self.address} has no room left, {doing}",
                last,
                f"free some there: its folder is {self.facts.root}",
            )
        return JobFault(
            "EV439",
            f"{self.address} failed, {doing}",
            last,
            f"edgevlm doctor --device {self.address}",
        )


def reach(
    connection: Connection,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Device:
    """First contact. Raises JobFault EV431 (no answer), EV432 (not let in), EV433 (no shell)."""
    try:
        reply = connection.run(HELLO.format(home=connection.home, boot=BOOT, tools=" ".join(TOOLS)))
    except LinkLost as lost:
        first_steps = _first_steps(connection)
        if lost.kind == "refused":
            raise JobFault(
                "EV432", f"{connection.address} does not let us in", lost.why, first_steps
            ) from None
        raise JobFault(
            "EV431", f"{connection.address} is not reached", lost.why, first_steps
        ) from None
    said: dict[str, list[str]] = {}
    for line in reply.text.splitlines():
        name, _, value = line.partition("=")
        said.setdefault(name, []).append(value.strip())
    missing = said.get("missing", [])
    if reply.status or missing or not {"root", "architecture", "system", "boot"} <= said.keys():
        raise JobFault(
            "EV433",
            f"{connection.address} cannot be worked with",
            f"it has no {' and no '.join(missing)}"
            if missing
            else reply.err[-300:] or "it has no POSIX shell",
            f"it takes a POSIX shell, {', '.join(TOOLS)}, and a folder that may be written to",
        )
    return Device(
        connection,
        Facts(
            said["root"][0],
            said["architecture"][0],
            said["system"][0],
            said["boot"][0],
        ),
        patience_s,
        sleep,
    )


def _first_steps(connection: Connection) -> str:
    if connection.kind == "adb":
        return "adb devices, which lists what is connected"
    target = shlex.quote(connection.address)
    return f"ssh {target}, once by hand: it asks for what is missing and shows the key"
