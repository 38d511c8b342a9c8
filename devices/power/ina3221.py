"""Watts of a Jetson's rails, from the INA3221 that its module carries.

The kernel's tree: https://docs.kernel.org/hwmon/ina3221.html

    /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/
        in1_label   VDD_IN         in1_input   4968   mV      curr1_input  1160   mA
        in2_label   VDD_CPU_GPU_CV ...
        in4_input ... in6_input    voltages over the shunts, in7: their sum; none is a rail

Orin Nano and NX have VDD_IN, which is the whole module, beside two parts of it. AGX Orin has none:
its rails are added up, and what is fed past them (the carrier, fans) is not in the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgevlm.devices.power.hwmon import Tree, number, text

__all__ = ["Ina3221"]

DRIVER = Path("sys/bus/i2c/drivers/ina3221")
CHANNELS = (1, 2, 3)


class Ina3221(Tree):
    name = "ina3221"
    total = frozenset({"VDD_IN", "POM_5V_IN", "VDD_IN_5V"})
    note = (
        "VDD_IN where the module has it, else the sum of its rails; fans and what else the carrier "
        "board feeds is not in this figure"
    )
    absent = "this machine has no INA3221: no Jetson, or no right to read it"
    period = 0.43  # NVIDIA's nvpower.sh sets 512 samples a conversion, which take 430 ms

    def period_s(self) -> float:
        told = [
            number(chip / "update_interval") / 1e3
            for chip in self._chips()
            if (chip / "update_interval").is_file()
        ]
        return max([self.period, *told])

    def read(self) -> Mapping[str, float]:
        watts: dict[str, float] = {}
        for chip in self._chips():
            for i in CHANNELS:
                if not (chip / f"in{i}_label").is_file():
                    continue
                rail = text(chip / f"in{i}_label")
                if rail in watts:
                    raise ValueError(f"two rails are called {rail}")
                watts[rail] = number(chip / f"in{i}_input") * number(chip / f"curr{i}_input") / 1e6
        return watts

    def _chips(self) -> Iterator[Path]:
        yield from sorted((self._root / DRIVER).glob("*/hwmon/hwmon*"))
