"""Watts of a phone or a notebook, from its battery: current times voltage, of everything in it.

    /sys/class/power_supply/battery/current_now    -812000    uA
    /sys/class/power_supply/battery/voltage_now    4102000    uV
    /sys/class/power_supply/battery/status         Discharging

By https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-power current is in uA, and
negative while it discharges; phones are known that have it positive, or in mA. So the sign is not
looked at, a phone that does not discharge is refused (its battery says what flows in, or nothing),
and a current below 5 mA, were it in uA, is taken for mA. Screen and radios are part of the figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevlm.devices.power.hwmon import Tree, text

__all__ = ["FILES", "Battery", "battery_watts"]

HOME = Path("sys/class/power_supply")

FILES = ("current_now", "voltage_now", "status")
LEAST_UA = 5000  # no phone that is awake draws less than 5 mA
VOLTS = (2.5, 13.0)  # one to three cells


def battery_watts(files: Mapping[str, str]) -> float:
    """Watts. files: name -> text. Raises ValueError unless it discharges and says all of FILES."""
    missing = [name for name in FILES if name not in files]
    if missing:
        raise ValueError(f"the battery has no {missing[0]}")
    status = files["status"].strip()
    if status != "Discharging":
        raise ValueError(f"the battery is {status.lower()}: unplug it, or stop it from charging")
    current, volts = abs(int(files["current_now"])), int(files["voltage_now"]) / 1e6
    if not VOLTS[0] <= volts <= VOLTS[1]:
        raise ValueError(f"a battery of {volts:g} V")
    if not current:
        raise ValueError("the battery says that no current flows: its driver does not tell")
    return volts * (current / 1e3 if current < LEAST_UA else current / 1e6)


class Battery(Tree):
    """The first battery that there is; one that charges tells nothing of what is used."""

    name = "battery"
    total = frozenset({"battery"})
    note = "all that the battery gives: screen, radios and other programs are in this figure"
    absent = "this machine has no battery that tells its current"
    period = 1.0  # fuel gauges average over about so long

    def read(self) -> Mapping[str, float]:
        for home in sorted((self._root / HOME).glob("*")):
            files = {name: text(home / name) for name in FILES if (home / name).is_file()}
            if len(files) == len(FILES):
                return {"battery": battery_watts(files)}
        return {}
