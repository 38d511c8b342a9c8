"""What `xmutil xlnx_platformstats -p` prints of a Kria module (older images: platformstats -p).

    SOM total power    :     3100 mW
    SOM total current  :     616 mA
    SOM total voltage  :     5017 mV

The power is the INA260's (ina260.py), which is read directly where its files can be.
"""

from __future__ import annotations

import re

__all__ = ["parse_platformstats"]

POWER = re.compile(r"^\s*SOM total power\s*:\s*(\d+)\s*mW\s*$", re.MULTILINE)


def parse_platformstats(text: str) -> float:
    """Watts of the module. Raises ValueError where the text does not say them."""
    told = POWER.search(text)
    if told is None:
        raise ValueError("xmutil says nothing of 'SOM total power' in mW")
    return int(told[1]) / 1e3
