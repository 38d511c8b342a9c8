"""How hot a machine gets while it works, and whether it held itself back for it.

Looked at between requests and once a second at most, so that no look falls into a time. Evidence
that clocks were held back, whichever the kernel shows:

    cooling_device*/cur_state          above 0 for a processor or graphics unit: the governor acts
    cpu*/thermal_throttle/*_count      Intel: counts of it since the machine started
    hwmon*/oc*_event_cnt               Jetson: over-current and over-temperature events
    soc:firmware/get_throttled         Raspberry Pi: bits 0-3 now, 16-19 since it started

https://docs.kernel.org/driver-api/thermal/sysfs-api.html
https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevlm.devices.power.hwmon import chips, number, text

__all__ = ["Thermal", "hottest", "temperatures"]

PERIOD_S = 1.0
THERMAL = Path("sys/class/thermal")
#: chips whose temperature is that of the processor, where no zone is
CHIPS = ("coretemp", "k10temp", "cpu_thermal")
#: types of cooling devices that make the machine slower; a fan does not
SLOWER = ("cpufreq", "cpu", "processor", "gpu", "devfreq")
PI = Path("sys/devices/platform/soc/soc:firmware/get_throttled")
PI_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
MOST_ZONES, MOST_SERIES = 64, 600


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius by zone; {} where none can be read."""
    found: dict[str, float] = {}
    for zone in sorted((root / THERMAL).glob("thermal_zone*"))[:MOST_ZONES]:
        with contextlib.suppress(OSError, ValueError):
            found[text(zone / "type")] = number(zone / "temp") / 1e3
    if not found:
        with contextlib.suppress(OSError, ValueError):
            for name, folder in chips(root):
                for file in sorted(folder.glob("temp*_input")) if name in CHIPS else ():
                    found[f"{name} {file.name.partition('_')[0]}"] = number(file) / 1e3
    # zones that are off say -40 or 0 or 1e6
    return {zone: degrees for zone, degrees in found.items() if 1 <= degrees <= 200}


def hottest(seen: dict[str, float]) -> tuple[str, float] | None:
    return max(seen.items(), key=lambda each: each[1], default=None)


@dataclass
class Thermal:
    """Looks at the machine while something runs; `as_json` says what was seen."""

    root: Path = Path("/")
    clock: Callable[[], float] = time.monotonic
    series: list[dict[str, Any]] = field(default_factory=list)
    held_back: list[str] = field(default_factory=list)  # why, each once
    _began: float | None = None
    _last: float = float("-inf")
    _counts: dict[str, int] = field(default_factory=dict)
    _shown: bool = False  # whether the machine shows any evidence at all

    def begin(self) -> None:
        """The work begins now."""
        self._began = self.clock()
        self._counts = dict(_counters(self.root))
        self.look()

    def look(self) -> None:
        """Does nothing within `PERIOD_S` of the last look."""
        now = self.clock()
        if self._began is None or now - self._last < PERIOD_S:
            return
        self._last = now
        if (found := hottest(temperatures(self.root))) and len(self.series) < MOST_SERIES:
            at_s = round(now - self._began, 2)
            self.series.append({"at_s": at_s, "celsius": found[1], "zone": found[0]})
        for why, acts in _acting(self.root):
            self._shown = True
            if acts and why not in self.held_back:
                self.held_back.append(why)

    def end(self) -> None:
        """The work ended: a last look, and what the counters say."""
        self._last = float("-inf")
        self.look()
        after = dict(_counters(self.root))
        self._shown |= bool(after)
        for name, count in after.items():
            if count > self._counts.get(name, count):
                self.held_back.append(f"{name} rose by {count - self._counts[name]}")

    def as_json(self) -> dict[str, Any]:
        """throttled: null where the machine shows nothing that tells."""
        degrees = [each["celsius"] for each in self.series]
        return {
            "first_celsius": degrees[0] if degrees else None,
            "last_celsius": degrees[-1] if degrees else None,
            "peak_celsius": max(degrees, default=None),
            "throttled": bool(self.held_back) if self._shown else None,
            "why": "; ".join(self.held_back)
            or ("no sign of it" if self._shown else "this machine shows nothing that tells"),
            "series": self.series,
        }


def _acting(root: Path) -> Iterator[tuple[str, bool]]:
    """(what, whether it makes the machine slower now)."""
    for device in sorted((root / THERMAL).glob("cooling_device*"))[:MOST_ZONES]:
        with contextlib.suppress(OSError, ValueError):
            kind = text(device / "type")
            if any(word in kind.lower() for word in SLOWER):
                yield f"cooling device {kind} acted", number(device / "cur_state") > 0
    with contextlib.suppress(OSError, ValueError):
        bits = int(text(root / PI), 16)
        for bit, name in PI_BITS.items():
            yield f"{name} (get_throttled)", bool(bits >> bit & 1)


def _counters(root: Path) -> Iterator[tuple[str, int]]:
    """Counts that only rise."""
    for file in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_count")):
        with contextlib.suppress(OSError, ValueError):
            yield f"{file.parent.parent.name} {file.name}", number(file)
    with contextlib.suppress(OSError, ValueError):
        for _, folder in chips(root):
            for file in sorted(folder.glob("oc*_event_cnt")):
                yield file.name, number(file)
