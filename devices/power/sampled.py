"""Energy from a sensor that says how many watts flow now: read it as often as it changes, add up.

A counter (RAPL) is read at both ends of a window and misses nothing. A sensor of watts is read by a
thread over and over, never faster than it updates: two readings of one conversion would look like
steadiness. Between readings power is taken to go straight from one to the next (trapezoids), before
the first and behind the last as they are. A window that is too short for that gets no figure.

Of a tree of rails either the one that holds the whole board counts, or the sum of the others.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgevlm.devices.power.base import Energy, unreadable

__all__ = ["LEAST", "Reading", "Sampled", "Sensor", "joules", "whole"]

LEAST = 4  # readings in a window, or the trapezoids are guesses

Watts = Mapping[str, float]  # by rail


@dataclass(frozen=True)
class Reading:
    """Watts of the whole at a moment, in seconds of one monotonic clock."""

    at_s: float
    watts: float


class Sensor(Protocol):
    """What a meter file describes; `Sampled` makes a meter of it."""

    name: str
    total: frozenset[str]  # rails that hold the whole board, in any of its boards' spellings
    note: str  # what the figure covers and leaves out

    def available(self) -> str | None:
        """None when it can be read now, otherwise one sentence why not. Never raises."""
        ...

    def period_s(self) -> float:
        """How often it changes."""
        ...

    def read(self) -> Watts:
        """Watts by rail, now. Raises OSError or ValueError."""
        ...

    def close(self) -> None:
        """The window is over; `read` may open anew what it needs."""
        ...


def whole(watts: Watts, total: frozenset[str]) -> float:
    """Of the rail that holds everything, else of all together. Raises ValueError for no rail."""
    if not watts:
        raise ValueError("no rail was read")
    mine = [value for rail, value in watts.items() if rail in total]
    return mine[0] if mine else sum(watts.values())


def joules(readings: Sequence[Reading], start_s: float, end_s: float) -> float:
    """Trapezoids between readings, clipped to the window; readings rise in time, one at least."""
    inside = [each.at_s for each in readings if start_s < each.at_s < end_s]
    times = [start_s, *inside, end_s]
    there = [_watts_at(readings, at_s) for at_s in times]
    return sum(
        (times[i + 1] - times[i]) * (there[i] + there[i + 1]) / 2 for i in range(len(times) - 1)
    )


def _watts_at(readings: Sequence[Reading], at_s: float) -> float:
    i = bisect.bisect(readings, at_s, key=lambda each: each.at_s)
    if i in (0, len(readings)):
        return readings[min(i, len(readings) - 1)].watts
    a, b = readings[i - 1], readings[i]
    return a.watts + (b.watts - a.watts) * (at_s - a.at_s) / (b.at_s - a.at_s)


class Sampled:
    """A meter of a sensor. Not for two threads at once."""

    def __init__(
        self,
        sensor: Sensor,
        clock: Callable[[], float] = time.monotonic,
        how: str = "measured-host",
    ) -> None:
        self.sensor, self.name = sensor, sensor.name
        self._clock, self._how = clock, how
        self._readings: list[Reading] = []
        self._failure: Exception | None = None
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def available(self) -> str | None:
        return self.sensor.available()

    def start(self) -> None:
        """Open a window. Raises JobFault EV402 when the sensor cannot be read."""
        if reason := self.available():
            raise unreadable(self.name, reason)
        if self._watcher:
            raise RuntimeError("start() called twice without stop()")
        self._readings, self._failure = [], None
        self._done.clear()
        self._began = self._clock()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def stop(self) -> Energy:
        """Close the window. Raises JobFault EV402 for a sensor that failed, or a short window."""
        if not self._watcher:
            raise RuntimeError("stop() called without start()")
        ended = self._clock()
        self._done.set()
        self._watcher.join()
        self._watcher = None
        self.sensor.close()
        if self._failure:
            why = str(self._failure) or type(self._failure).__name__
            raise unreadable(self.name, f"it could not be read to the end ({why})")
        if len(self._readings) < LEAST:
            raise unreadable(
                self.name,
                f"{len(self._readings)} readings in {ended - self._began:.2f} s; it changes every "
                f"{self.sensor.period_s():.2g} s and {LEAST} are the least",
            )
        spent = joules(self._readings, self._began, ended)
        peak = max(each.watts for each in self._readings)
        return Energy(spent, ended - self._began, self._how, self.name, self.sensor.note, peak)

    def _watch(self) -> None:
        due = self._began
        while True:
            try:
                watts = whole(self.sensor.read(), self.sensor.total)
            except (OSError, ValueError) as error:
                self._failure = error
                return
            self._readings.append(Reading(self._clock(), watts))
            due += self.sensor.period_s()
            if self._done.wait(max(0.0, due - self._clock())):
                return
