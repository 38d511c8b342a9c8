"""Watts of a Kria module, from the INA260 on VCC_SOM: everything that the module draws.

    /sys/class/hwmon/hwmon2/name          ina260_u14
    /sys/class/hwmon/hwmon2/power1_input  3100000     uW, in steps of 10 mW

`xmutil xlnx_platformstats -p` prints the same numbers (xmutil.py); the fan and what the carrier
board feeds is not in them. The sensor converts every 2.2 ms; a reading every 50 ms is a mean of
nothing, so runs should last seconds: UG1089 gives 3.0 to 3.6 W for a module that does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevlm.devices.power.hwmon import chips, number, refusal

__all__ = ["Ina260"]

PERIOD_S = 0.05


class Ina260:
    name = "ina260"
    total = frozenset({"VCC_SOM"})
    note = "the Kria module; its fan and the carrier board are not in this figure"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def available(self) -> str | None:
        return refusal(self.read, "this machine has no INA260: no Kria module")

    def period_s(self) -> float:
        return PERIOD_S

    def read(self) -> Mapping[str, float]:
        for name, folder in chips(self._root):
            if name.startswith("ina260"):
                return {"VCC_SOM": number(folder / "power1_input") / 1e6}
        return {}
