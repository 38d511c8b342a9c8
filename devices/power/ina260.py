"""Watts of a Kria module, from the INA260 on VCC_SOM: everything that the module draws.

    /sys/class/hwmon/hwmon2/name          ina260_u14
    /sys/class/hwmon/hwmon2/power1_input  3100000     uW, in steps of 10 mW

`xmutil xlnx_platformstats -p` prints the same numbers (xmutil.py); the fan and what the carrier
board feeds is not in them. The sensor converts every 2.2 ms; a reading every 50 ms is a mean of
nothing, so runs should last seconds: UG1089 gives 3.0 to 3.6 W for a module that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgevlm.devices.power.hwmon import Tree, chips, number

__all__ = ["Ina260"]


class Ina260(Tree):
    name = "ina260"
    total = frozenset({"VCC_SOM"})
    note = "the Kria module; its fan and the carrier board are not in this figure"
    absent = "this machine has no INA260: no Kria module"
    period = 0.05

    def read(self) -> Mapping[str, float]:
        for name, folder in chips(self._root):
            if name.startswith("ina260"):
                return {"VCC_SOM": number(folder / "power1_input") / 1e6}
        return {}
