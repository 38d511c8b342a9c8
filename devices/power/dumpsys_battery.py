"""What `dumpsys battery` of an Android phone says: whether it charges, and how warm it is.

    Current Battery Service state:
      AC powered: false
      USB powered: true
      status: 3                     2 charging, 3 discharging, 4 not charging, 5 full
      level: 87                     of `scale`, 100
      voltage: 4102                 mV
      temperature: 291              tenths of a degree

It has no current on most phones, so it gives no watts: it tells whether power_supply.py's figure
can be one, and whether a run began and ended equally warm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Battery", "parse_battery"]

ROW = re.compile(r"^ {2}([A-Za-z][\w ]*): (\S+)\s*$", re.MULTILINE)
SOURCES = ("AC powered", "USB powered", "Wireless powered", "Dock powered")
CHARGING = {"2": True, "3": False, "4": False, "5": False}  # android.os.BatteryManager


@dataclass(frozen=True)
class Battery:
    """None: the phone does not say so."""

    powered_by: tuple[str, ...]
    charging: bool | None
    percent: float | None
    volts: float | None
    celsius: float | None


def parse_battery(text: str) -> Battery:
    """Raises ValueError for text that is not of `dumpsys battery`."""
    told = dict(ROW.findall(text))
    if "level" not in told:
        raise ValueError("no answer of dumpsys battery: it says nothing of a level")
    level, scale = int(told["level"]), int(told.get("scale", "100"))
    return Battery(
        tuple(name.removesuffix(" powered") for name in SOURCES if told.get(name) == "true"),
        CHARGING.get(told.get("status", "")),
        100 * level / scale if scale > 0 else None,
        int(told["voltage"]) / 1e3 if "voltage" in told else None,
        int(told["temperature"]) / 10 if "temperature" in told else None,
    )
