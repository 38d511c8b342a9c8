"""When the Neural Engine was at work: the table `ane-hw-intervals-internal` of Instruments.

    start-time   ns from the begin of the trace        formatted-label   what it ran
    duration     ns                                    gpu-state         Active where it worked

It is a table of the hardware: it has no process in it, so what other apps ran is in it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgevlm.runtimes.coreml.mac import unreadable
from edgevlm.runtimes.coreml.xctrace import Table

__all__ = ["SCHEMA", "Busy", "ane_busy"]

SCHEMA = "ane-hw-intervals-internal"


@dataclass(frozen=True)
class Busy:
    """intervals: how many. ms: their time together, what overlaps counted once. labels: seen."""

    how: ClassVar[str] = "measured-device"
    intervals: int
    ms: float
    labels: tuple[str, ...]


def ane_busy(table: Table, state: str = "Active") -> Busy:
    """Of a table that `parse_table` read. Raises EV381 for another one."""
    if table.schema != SCHEMA:
        raise unreadable("a table of the Neural Engine", f"it is {table.schema!r:.60}")
    spans, labels = [], {}
    for row in table.rows:
        shown = row["gpu-state"].shown if "gpu-state" in row else state
        if shown != state:
            continue
        try:
            begin, length = row["start-time"].number, row["duration"].number
        except (KeyError, ValueError) as error:
            raise unreadable("a table of the Neural Engine", f"a row without {error}") from error
        spans.append((begin, begin + length))
        if "formatted-label" in row:
            labels[row["formatted-label"].shown] = None
    return Busy(len(spans), _union(spans) / 1e6, tuple(labels))


def _union(spans: list[tuple[int, int]]) -> int:
    """Nanoseconds in any of them."""
    total, reached = 0, None
    for begin, end in sorted(spans):
        begin = begin if reached is None else max(begin, reached)
        if end > begin:
            total += end - begin
        reached = end if reached is None else max(end, reached)
    return total
