"""Raspberry Pi 5: the rails behind its power chip, each with a current and a voltage.

    $ vcgencmd pmic_read_adc
      3V7_WL_SW_A current(0)=0.12199130A
       VDD_CORE_A current(7)=1.54489000A
      3V7_WL_SW_V volt(8)=3.60605200V
       VDD_CORE_V volt(15)=0.88725180V
          EXT5V_V volt(24)=4.87894000V

Twelve rails have both; EXT5V and BATT have a voltage alone and give no watts. What the chip itself
loses, USB ports and boards on top are behind none of them, so a meter at the plug shows more: by
14.5 % and 0.6 W on the one board for which somebody fitted a line, which is not applied here. Older
boards have no such reading. https://github.com/ml-energy/zeus/issues/273
https://github.com/leukipp/touchkio/issues/35
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgevlm.devices.power.program import Asked

__all__ = ["Pmic", "parse_adc"]

COMMAND = ("vcgencmd", "pmic_read_adc")
ROW = re.compile(
    r"^\s*(?P<rail>\w+)_(?:A\s+current\(\d+\)=(?P<amperes>[\d.]+)A|V\s+volt\(\d+\)=(?P<volts>[\d.]+)V)\s*$",
    re.MULTILINE,
)


def parse_adc(text: str) -> Mapping[str, float]:
    """Watts of every rail that has both. Raises ValueError for text without one."""
    amperes: dict[str, float] = {}
    volts: dict[str, float] = {}
    for row in ROW.finditer(text):
        kind, value = (amperes, row["amperes"]) if row["amperes"] else (volts, row["volts"])
        kind[row["rail"]] = float(value)
    watts = {rail: amperes[rail] * volts[rail] for rail in amperes if rail in volts}
    if not watts:
        raise ValueError("pmic_read_adc shows no rail with current and voltage: no Raspberry Pi 5")
    return watts


class Pmic(Asked):
    """All its rails are parts; none of them holds the board."""

    name = "pmic"
    program, absent = COMMAND[0], "this machine has no vcgencmd: no Raspberry Pi"
    total: frozenset[str] = frozenset()
    note = (
        "the sum of the rails behind the power chip; its losses, USB ports and boards on top are "
        "not in this figure"
    )

    def period_s(self) -> float:
        return 0.25  # the firmware reads faster; a program is started for every reading

    def read(self) -> Mapping[str, float]:
        """Raises OSError, ValueError."""
        return parse_adc(self._run(COMMAND))
