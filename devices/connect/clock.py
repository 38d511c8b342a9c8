"""The clock of a device against ours: what a meter here saw can be laid over what ran there.

Both are clocks that nobody sets: ours is CLOCK_BOOTTIME, as is /proc/uptime of a Linux device. A
line goes there and its answer comes back; the device read its clock somewhere in between. Of
several such exchanges the quickest says most (Cristian, Distributed Computing 3, 1989): the offset
is off by half of its round trip at most, and by what the device's clock leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgevlm.devices.connect.connection import Connection
from edgevlm.devices.host import boot_time

__all__ = ["Alignment", "align", "best"]

TRIES = 9
WITHIN_S = 15.0  # all of them, the link made anew included
RESOLUTION_S = 0.01  # of /proc/uptime
#: of the shell alone: a program started for every answer would take milliseconds of its own
ANSWERS = 'while read -r _; do read -r up _ < /proc/uptime; echo "$up"; done'


@dataclass(frozen=True)
class Alignment:
    """our clock = the device's + `offset_s`, give or take `error_s`."""

    offset_s: float
    error_s: float

    def ours(self, there_s: float) -> float:
        return there_s + self.offset_s


def best(exchanges: list[tuple[float, float, float]]) -> Alignment:
    """Of (sent, read there, received); first and last by our clock. Raises ValueError if none."""
    sent, there, received = min(exchanges, key=lambda each: each[2] - each[0])
    # the device cut its clock to hundredths, so it was half of one later in the mean
    middle = there + RESOLUTION_S / 2
    return Alignment((sent + received) / 2 - middle, (received - sent) / 2 + RESOLUTION_S / 2)


def align(connection: Connection, clock: Callable[[], float] = boot_time) -> Alignment | None:
    """None where the device does not tell its time."""
    exchanges = []
    with connection.open(ANSWERS, within_s=WITHIN_S) as child:
        for _ in range(TRIES):
            sent = clock()
            try:
                child.stdin.write(b"\n")
                child.stdin.flush()
                there = float(child.stdout.readline(64))
            except (OSError, ValueError):
                break
            exchanges.append((sent, there, clock()))
    return best(exchanges) if exchanges else None
