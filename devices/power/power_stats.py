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
from collections.abc import Mapping

__all__ = ["parse_delta", "tpu"]

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
