"""What this machine is, read at run time, so that every measurement says where it was made.

A figure without its machine cannot be repeated, and a container often sees more cores than it may
use. So cores follow affinity and cgroup quota, memory follows the cgroup limit, and what cannot be
read is None, never a guess. The host name, the user and any path stay out: reports get published.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["Host", "boot_time", "clock_mhz", "describe_host", "peak_rss_mb", "tool_versions"]

# Instruction sets that decide how fast int8 and fp16 run: x86 names, then Arm's.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
)


@dataclasses.dataclass(frozen=True)
class Host:
    """One machine at one moment. None means that it could not be read."""

    cpu_model: str | None
    architecture: str  # as the kernel names it: x86_64, aarch64
    cores: int  # logical cores this process may use: affinity, rounded-up cgroup quota
    cpu_quota: float | None  # cores' worth of CPU time the cgroup allows; None without a quota
    ram_gib: float | None  # 2**30 bytes; the cgroup limit where that is smaller
    os: str
    kernel: str
    python: str
    governor: str | None
    clock_mhz: float | None  # of core 0 as the kernel reports it now
    cpu_flags: tuple[str, ...]
    load_average: tuple[float, float, float] | None  # runnable threads over 1, 5 and 15 minutes

    def as_json(self) -> dict[str, Any]:
        """The same fields as plain data, tuples as lists."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }


def describe_host(root: Path = Path("/")) -> Host:
    """Read this machine. `root` is where proc, sys and etc are looked for. Never raises."""
    cpu = _cpuinfo(root)
    flags = set((cpu.get("flags") or cpu.get("features") or "").split())
    groups = _cgroups(root)
    quota = _cpu_quota(groups)
    cores = _affinity() if quota is None else min(_affinity(), max(1, math.ceil(quota)))
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return Host(
        cpu_model=cpu.get("model name")
        or _read(root / "sys/firmware/devicetree/base/model")
        or _arm_part(cpu),
        architecture=platform.machine(),
        cores=cores,
        cpu_quota=quota,
        ram_gib=_ram_gib(root, groups),
        os=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock_mhz=clock_mhz(root),
        cpu_flags=tuple(flag for flag in _FLAGS if flag in flags),
        load_average=None if load is None else tuple(round(value, 2) for value in load),
    )


def clock_mhz(root: Path = Path("/")) -> float | None:
    """Core 0's clock in MHz now, or None where the kernel does not say (most virtual machines)."""
    khz = _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return int(khz) / 1e3 if khz and khz.isdigit() else None


def boot_time() -> float:
    """Seconds of the clock that nobody sets, sleep included: that of /proc/uptime on Linux."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def tool_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Distribution name -> installed version, None where it is not installed. Imports nothing."""
    from importlib import metadata

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            found[name] = None
    return found


def peak_rss_mb() -> float:
    """The most resident memory this process ever held, in MB (1e6 bytes)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # Linux counts in KiB


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's fields of /proc/cpuinfo; Arm spells `Features` with a capital."""
    fields: dict[str, str] = {}
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return fields


def _arm_part(cpu: dict[str, str]) -> str | None:
    """Arm servers give numbers instead of a name, such as implementer 0x41, part 0xd40."""
    if "cpu part" not in cpu:
        return None
    return f"Arm implementer {cpu.get('cpu implementer', 'unknown')}, part {cpu['cpu part']}"


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroups(root: Path) -> list[Path]:
    """This process's cgroup folders and all above them; each may set a limit.

    A line of /proc/self/cgroup is `0::<path>` in version 2, `<n>:<controllers>:<path>` in 1.
    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    base = root / "sys/fs/cgroup"
    folders = [base]
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        own = Path(path.lstrip("/"))
        if controllers in ("", "cpu", "cpu,cpuacct", "memory") and ".." not in own.parts:
            folders += [base / controllers / part for part in (own, *own.parents)]
    return folders


def _cpu_quota(groups: list[Path]) -> float | None:
    """The tightest quota, in cores: CPU microseconds granted in each period of microseconds."""
    quotas = []
    for group in groups:
        quota, _, period = (_read(group / "cpu.max") or "max").partition(" ")
        if quota == "max":  # version 1 has two files, and -1 for no quota
            quota = _read(group / "cpu.cfs_quota_us") or ""
            period = _read(group / "cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _ram_gib(root: Path, groups: list[Path]) -> float | None:
    texts = [
        _read(group / name) for group in groups for name in ("memory.max", "memory.limit_in_bytes")
    ]
    limits = [int(text) for text in texts if text and text.isdigit()]
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) * 1024)  # the kernel's "kB" are 1024 bytes
    return round(min(limits) / 2**30, 2) if limits else None


def _os_name(root: Path) -> str:
    """Name and version of the distribution, such as "Debian GNU/Linux 12 (bookworm)"."""
    for line in (_read(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return platform.system()
