"""Watts of a ZCU102, ZCU104 or ZCU106 board: an INA226 for every rail, and none for all of them.

    /sys/class/hwmon/hwmon4/name          ina226_u79
    /sys/class/hwmon/hwmon4/power1_input  1250000     uW

What is called what is told by the board's schematic alone, so rails have the names of their chips
(u79), and the figure is the sum of all that can be read. Power supplies and fans are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgevlm.devices.power.hwmon import Tree, chips, number

__all__ = ["Ina226"]


class Ina226(Tree):
    name = "ina226"
    total: frozenset[str] = frozenset()
    note = (
        "the sum of all INA226 rails; supplies, fans and what has no sensor are not in this figure"
    )
    absent = "this machine has no INA226: no ZCU102, ZCU104 or ZCU106"
    period = 0.1  # a conversion takes 35 ms as the board support sets it

    def read(self) -> Mapping[str, float]:
        return {
            name.removeprefix("ina226_"): number(folder / "power1_input") / 1e6
            for name, folder in chips(self._root)
            if name.startswith("ina226")
        }
