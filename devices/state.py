"""Clocks and power mode of a machine now: read before and after, or figures cannot be repeated.

A Jetson's power mode is told by `nvpmodel -q`, whose numbers differ by carrier board; names do not.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgevlm.devices.power.hwmon import number, text

__all__ = ["describe_state"]

CPUS = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
DEVFREQ = "sys/class/devfreq/*"
#: parts of names of devices that compute
COMPUTES = ("gpu", "gv11b", "ga10b", "gb10b", "mali", "npu", "tpu", "nvdla")


def _run(command: Sequence[str]) -> str:
    """What a program prints; "" where it is not there or fails."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, timeout=5, check=True
        )
        return done.stdout
    return ""


def describe_state(
    root: Path = Path("/"), run: Callable[[Sequence[str]], str] = _run
) -> dict[str, Any]:
    """Governor, MHz of cores and of what else computes, power mode; null where not shown."""
    mode = re.search(r"NV Power Mode:\s*(\S+)", run(["nvpmodel", "-q"]))
    cores = sorted(root.glob(CPUS), key=lambda p: int(re.sub(r"\D", "", p.parent.name)))
    governors = {found for core in cores if (found := _text(core / "scaling_governor"))}
    return {
        "governor": ", ".join(sorted(governors)) or None,
        "cpu_mhz": [_mhz(core / "scaling_cur_freq", 1e3) for core in cores] or None,
        "cpu_most_mhz": max(
            (mhz for core in cores if (mhz := _mhz(core / "scaling_max_freq", 1e3))), default=None
        ),
        "units_mhz": {
            device.name: _mhz(device / "cur_freq", 1e6)
            for device in sorted(root.glob(DEVFREQ))
            if any(word in device.name.lower() for word in COMPUTES)
        },
        "power_mode": mode[1] if mode else _text(root / "sys/firmware/acpi/platform_profile"),
    }


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return text(path)[:80] or None
    return None


def _mhz(path: Path, per_mhz: float) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return round(number(path) / per_mhz, 1)
    return None
