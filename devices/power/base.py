"""What a power meter must do, and the one way a window of it is opened and closed.

A meter is one file and one class. It says in a sentence why it cannot be used, so that a report
shows "not measured, because ..." and never a number from a data sheet in its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.stats import check_how

__all__ = ["Absent", "Energy", "Meter", "Window", "unreadable", "window"]


class Absent(str):
    """Why a meter cannot be used where the machine does not have it at all."""


@dataclasses.dataclass(frozen=True)
class Energy:
    """What one window used."""

    joules: float
    seconds: float  # by the monotonic clock, read beside the counters
    how: str  # a provenance label of devices/stats.py; a meter measures, so "measured-..."
    meter: str
    note: str | None = None  # what the figure covers and leaves out
    peak_watts: float | None = None  # the most that a sensor of watts read; a counter has none

    def __post_init__(self) -> None:
        check_how(self.how)

    @property
    def watts(self) -> float | None:
        """Mean power over the window; None for a window without length."""
        return self.joules / self.seconds if self.seconds > 0 else None

    def as_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return dataclasses.asdict(self)


@runtime_checkable
class Meter(Protocol):
    """One way to read energy. `start` and `stop` come in pairs; a meter may be used again."""

    name: str

    def available(self) -> str | None:
        """None when it can be used now, otherwise one sentence why not. Never raises."""
        ...

    def start(self) -> None:
        """Open a window. Raises JobFault EV402 when the meter cannot be read."""
        ...

    def stop(self) -> Energy:
        """Close the window. Raises JobFault EV402 when it could not be read to the end."""
        ...


@dataclasses.dataclass
class Window:
    """Filled in when the `with` block ends."""

    energy: Energy | None = None


@contextlib.contextmanager
def window(meter: Meter) -> Iterator[Window]:
    """`with window(meter) as w: work()`, then `w.energy`. Stopped also when the work raises."""
    meter.start()
    opened = Window()
    try:
        yield opened
    except BaseException:
        # The work's own failure is what the user must hear about, not a meter cut short.
        with contextlib.suppress(Exception):
            meter.stop()
        raise
    opened.energy = meter.stop()


def unreadable(meter: str, why: str) -> JobFault:
    return JobFault(
        "EV402", f"power meter {meter}", why, "edgevlm doctor, or profile again without a meter"
    )
