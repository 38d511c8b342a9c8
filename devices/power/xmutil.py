"""What `xmutil xlnx_platformstats -p` prints of a Kria module (older images: platformstats -p).

    SOM total power    :     3100 mW
    SOM total current  :     616 mA
    SOM total voltage  :     5017 mV

The power is the INA260's (ina260.py), which is read directly where its files can be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgevlm.devices.power.ina260 import Ina260
from edgevlm.devices.power.program import Asked

__all__ = ["Xmutil", "parse_platformstats"]

#: what newer and older images call it
COMMANDS = (("xmutil", "xlnx_platformstats", "-p"), ("xmutil", "platformstats", "-p"))

POWER = re.compile(r"^\s*SOM total power\s*:\s*(\d+)\s*mW\s*$", re.MULTILINE)


def parse_platformstats(text: str) -> float:
    """Watts of the module. Raises ValueError where the text does not say them."""
    told = POWER.search(text)
    if told is None:
        raise ValueError("xmutil says nothing of 'SOM total power' in mW")
    return int(told[1]) / 1e3


class Xmutil(Asked):
    """Where the INA260's files may not be read. A program is started for every reading."""

    name = "xmutil"
    program, absent = "xmutil", "this machine has no xmutil: no Kria module"
    total = Ina260.total
    note = Ina260.note

    _command: Sequence[str] | None = None  # that answered

    def period_s(self) -> float:
        return 1.0  # starting it takes a good part of a second of one core

    def read(self) -> Mapping[str, float]:
        """Raises OSError, ValueError."""
        failure: Exception = OSError("xmutil was not asked")
        for command in [self._command] if self._command else COMMANDS:
            try:
                watts = parse_platformstats(self._run(command))
            except (OSError, ValueError) as error:
                failure = error
                continue
            self._command = command
            return {next(iter(self.total)): watts}
        raise failure
