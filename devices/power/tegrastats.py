"""A line of NVIDIA's `tegrastats`: watts by rail, and what else it says of a Jetson at work.

    RAM 2840/7620MB (lfb 512x4MB) SWAP 0/4096MB ... GR3D_FREQ 76% ... VDD_IN 5765mW ...
    ... GR3D_FREQ 99%@1300 GPU@48C tj@50.1C VDD_GPU_SOC 15000mW/15000mW ...
    ... VDD_IN 5336/4970 VDD_CPU_GPU_CV 2617/2336 ...

A rail is `<name> <now>` or `<name> <now>/<mean since tegrastats began>`, in mW also where it does
not say so (JetPack 4 and 5.0). The mean is of no use for a window and is left alone. Some versions
put a date in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Stats", "parse_line"]

# Rails of all boards begin so; RAM, SWAP and frequencies look alike otherwise.
RAIL = re.compile(r"\b((?:VDD|VIN|VDDQ|POM)_?\w*) (\d+)(?:mW)?(?:/(\d+)(?:mW)?)?(?=\s|$)")
LOAD = re.compile(r"\bGR3D_FREQ (\d+)%(?:@\[?(\d+))?")
HEAT = re.compile(r"\b([\w.]+)@(-?\d+(?:\.\d+)?)C\b")
RAM = re.compile(r"\bRAM (\d+)/(\d+)MB\b")


@dataclass(frozen=True)
class Stats:
    """Watts by rail, now; what a version does not print is None or absent."""

    watts: Mapping[str, float]
    gpu_percent: int | None
    gpu_mhz: int | None
    celsius: Mapping[str, float]
    ram_mb: int | None
    ram_total_mb: int | None


def parse_line(line: str) -> Stats:
    """Raises ValueError for a line that tegrastats did not print."""
    memory, load = RAM.search(line), LOAD.search(line)
    if memory is None:
        raise ValueError(f"no line of tegrastats: {line[:60]!r}")
    return Stats(
        {name: int(now) / 1e3 for name, now, _ in RAIL.findall(line)},
        int(load[1]) if load else None,
        int(load[2]) if load and load[2] else None,
        {name: float(degrees) for name, degrees in HEAT.findall(line)},
        int(memory[1]),
        int(memory[2]),
    )
