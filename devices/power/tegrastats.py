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
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from edgevlm.devices.power.base import Absent
from edgevlm.devices.power.ina3221 import Ina3221

__all__ = ["Stats", "Tegrastats", "parse_line"]

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


class Tegrastats:
    """Where the files of the INA3221 may not be read: its program prints a line a conversion."""

    name = "tegrastats"
    total = Ina3221.total
    note = Ina3221.note + "; as tegrastats prints it, in whole mW"

    def __init__(self, command: str = "tegrastats") -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def available(self) -> str | None:
        if shutil.which(self._command) is None:
            return Absent("this machine has no tegrastats: no Jetson")
        try:
            return None if self.read() else "tegrastats prints no rails"
        except (OSError, ValueError) as error:
            return str(error)
        finally:
            self.close()

    def period_s(self) -> float:
        return Ina3221.period

    def read(self) -> Mapping[str, float]:
        """Waits for its next line. Raises OSError where it has ended, ValueError for other text."""
        if self._process is None:
            interval = str(round(1000 * self.period_s()))
            self._process = subprocess.Popen(
                [self._command, "--interval", interval],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        line = self._process.stdout.readline()
        if not line:
            raise OSError("tegrastats has ended")
        return parse_line(line).watts

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None
