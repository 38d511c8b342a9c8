"""Energy by rail of a Pixel (6 and later), counted by its power-stats service since last asked.

    adb shell dumpsys android.hardware.power.stats.IPowerStats/default delta

    ============= PowerStats HAL 2.0 energy meter ==============
                     [S9M_VDD_TPU_M]:TPU       12345.67 mWs (   12.34)
    ========== End of energy meter ==========

The first number is what the rail used since the last call with `delta`, in mW s, which is mJ; the
one in brackets is a mean. Ask once to begin a window and once to end it. Rails are those of the
phone: other makers have the service without any.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from edgevlm.devices.power.base import Energy, unreadable
from edgevlm.devices.power.program import Asked, Program, run_program

__all__ = ["PowerStats", "parse_delta", "tpu"]

COMMAND = ("dumpsys", "android.hardware.power.stats.IPowerStats/default", "delta")

BEGIN = re.compile(r"^=+ PowerStats HAL 2\.0 energy meter =+\s*$", re.MULTILINE)
END = re.compile(r"^=+ End of ", re.MULTILINE)
ROW = re.compile(r"^[ \t]*(\S+)[ \t]+(-?\d+\.\d+) mWs \([ \t]*-?\d+\.\d+\)\s*$", re.MULTILINE)


def parse_delta(text: str) -> Mapping[str, float]:
    """Joules by rail, as it prints their names. Raises ValueError for other text."""
    begins = BEGIN.search(text)
    if begins is None:
        raise ValueError("the phone's power-stats service has no energy meter")
    ends = END.search(text, begins.end())
    if ends is None:
        raise ValueError("the energy meter's answer ends in the middle")
    found: dict[str, float] = {}
    for rail, spent in ROW.findall(text[begins.end() : ends.start()]):
        if rail in found:
            raise ValueError(f"rail {rail} is there twice")
        if float(spent) < 0:
            raise ValueError(f"rail {rail} counted backwards: the phone began anew in between")
        found[rail] = float(spent) / 1e3
    if not found:
        raise ValueError("the energy meter has no rails")
    return found


def tpu(joules: Mapping[str, float]) -> float | None:
    """Of the TPU's rails; None where the phone has none."""
    mine = [spent for rail, spent in joules.items() if rail.rpartition(":")[2] == "TPU"]
    return sum(mine) if mine else None


class PowerStats(Asked):
    """A counter of a Pixel's rails. Whoever else asks for `delta` meanwhile takes from it."""

    name = "power-stats"
    program, absent = COMMAND[0], "this machine has no dumpsys: no Android phone"

    def __init__(
        self, run: Program = run_program, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(run)
        self._clock = clock
        self._began: float | None = None

    def start(self) -> None:
        """Open a window. Raises JobFault EV402."""
        if self._began is not None:
            raise RuntimeError("start() called twice without stop()")
        self._counted()
        self._began = self._clock()

    def stop(self) -> Energy:
        """Close the window. Raises JobFault EV402."""
        if self._began is None:
            raise RuntimeError("stop() called without start()")
        seconds, self._began = self._clock() - self._began, None
        spent = self._counted()
        note = f"the sum of {len(spent)} rails that the phone counts; what has no rail is left out"
        if (own := tpu(spent)) is not None:
            note += f"; of it {own:.3f} J in rails of its TPU"
        return Energy(sum(spent.values()), seconds, "measured-device", self.name, note)

    def read(self) -> Mapping[str, float]:
        """Joules by rail since last asked. Raises OSError, ValueError."""
        return parse_delta(self._run(COMMAND))

    def _counted(self) -> Mapping[str, float]:
        try:
            return self.read()
        except (OSError, ValueError) as error:
            raise unreadable(self.name, str(error)) from error
