"""Energy of the CPU packages, from the counters that Intel and AMD processors keep (RAPL).

The kernel's tree: https://docs.kernel.org/power/powercap/powercap.html

    intel-rapl:0      package-0        counted (AMD's packages carry the same names)
    intel-rapl:0:0    core             part of package-0: adding it would count it twice
    intel-rapl:0:1    dram             not counted, so that Intel and AMD figures mean the same
    intel-rapl:1      psys             the whole platform, packages included: not counted
    intel-rapl-mmio:0 package-0        the same package through other registers: not counted

A counter runs to `max_energy_range_uj` and starts again at 0, after minutes under load. One turn
is plain from the two ends of a window. More than one cannot be told apart, so a thread reads the
counters in between; it sleeps until a package drawing `MAX_WATTS` could have done half a turn.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from edgevlm.devices.power.base import Absent, Energy, unreadable
from edgevlm.devices.power.hwmon import number, text

__all__ = ["MAX_WATTS", "Rapl", "advance"]

# No package sustains this; it only decides how early the watching thread wakes.
MAX_WATTS = 1000.0
_NOTE = (
    "CPU packages only: DRAM, disks, fans, other chips and losses in the supply are not in "
    "this figure"
)


def advance(before: int, after: int, full: int) -> int:
    """Microjoules from one reading to the next, when the counter turned over at most once.

    `full` is max_energy_range_uj. The counter in fact turns one unit (about 15 to 61 uJ) later.
    """
    return after - before if after >= before else after - before + full


class Rapl:
    """Adds up the packages of this machine. Not for two threads at once."""

    name = "rapl"

    def __init__(
        self, root: Path = Path("/sys/class/powercap"), max_watts: float = MAX_WATTS
    ) -> None:
        self._root, self._max_watts = root, max_watts
        self._packages: dict[Path, int] = {}  # folder -> max_energy_range_uj
        self._last: dict[Path, int] = {}  # folder -> the newest reading, in uJ
        self._total_uj = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None
        self._failure: OSError | ValueError | None = None

    def available(self) -> str | None:
        """None when every package's counter can be read, otherwise one sentence why not."""
        try:
            packages = self._find()
            for folder in packages:
                number(folder / "energy_uj")
        except PermissionError:
            # Readable by root only since https://nvd.nist.gov/vuln/detail/CVE-2020-8694
            return (
                "the RAPL energy counters are readable by root alone (CVE-2020-8694); run as "
                "root, or let an administrator make energy_uj of intel-rapl:* readable"
            )
        except (OSError, ValueError) as error:
            return f"the RAPL counters cannot be read ({type(error).__name__})"
        if not packages:
            return Absent(
                "this machine shows no RAPL package counters: a virtual machine, a container "
                "or a processor other than Intel's and AMD's"
            )
        return None

    def start(self) -> None:
        """Open a window. Raises JobFault EV402 when the counters cannot be read."""
        reason = self.available()
        if reason:
            raise unreadable(self.name, reason)
        if self._watcher:
            raise RuntimeError("start() called twice without stop()")
        self._packages, self._last, self._total_uj = self._find(), {}, 0
        self._failure = None
        self._done.clear()
        self._began = time.monotonic()
        self._update()
        # Half a turn at the highest power, so that a late wake-up still comes in time.
        period_s = min(self._packages.values()) / 1e6 / self._max_watts / 2
        self._watcher = threading.Thread(target=self._watch, args=(period_s,), daemon=True)
        self._watcher.start()

    def stop(self) -> Energy:
        """Close the window. Raises JobFault EV402 when a counter could not be read."""
        if not self._watcher:
            raise RuntimeError("stop() called without start()")
        self._update()
        seconds = time.monotonic() - self._began
        self._done.set()
        self._watcher.join()
        self._watcher = None
        if self._failure:
            raise unreadable(
                self.name,
                f"a RAPL counter went away inside the window ({type(self._failure).__name__})",
            )
        return Energy(self._total_uj / 1e6, seconds, "measured-host", self.name, _NOTE)

    def _watch(self, period_s: float) -> None:
        while not self._done.wait(period_s):
            self._update()

    def _update(self) -> None:
        with self._lock:
            for folder, full in self._packages.items():
                try:
                    now = number(folder / "energy_uj")
                except (OSError, ValueError) as error:
                    self._failure = error
                    return
                self._total_uj += advance(self._last.get(folder, now), now, full)
                self._last[folder] = now

    def _find(self) -> dict[Path, int]:
        """The top-level zones named package-..., each with its counter's range in uJ."""
        zones = sorted(self._root.glob("intel-rapl:*")) if self._root.is_dir() else []
        return {
            zone: number(zone / "max_energy_range_uj")
            for zone in zones
            if re.fullmatch(r"intel-rapl:\d+", zone.name)
            and text(zone / "name").startswith("package")
        }
