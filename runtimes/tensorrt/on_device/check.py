"""What is looked at before a build: the device, the artifacts, room on disk and in memory.

A build that cannot end well is refused while that is cheap: on a Jetson it may take minutes, and
the processor shares its memory with the GPU.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Iterable

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import Api, numbers_of
from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda
from edgevlm.runtimes.tensorrt.on_device.digests import file_digest
from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan, Plan

__all__ = ["check_artifacts", "check_device", "check_room", "memory_free", "older_release"]

SUMS, MAX_SUMS = "SHA256SUMS", 16 * 2**20
DISK = 2  # times the artifacts: an engine holds the weights, and its .part stands beside it
ASIDE = 128 * 2**20  # bytes that a builder takes whatever the part; seen: 190 MB in all for 39 kB


def check_device(plan: Plan, sm: int, any_device: bool) -> None:
    """Raises EV356 where the artifacts were made for another kind of GPU."""
    if sm != plan.sm and not any_device:
        raise JobFault(
            "EV356",
            f"this bundle is for {plan.device} (SM{plan.sm}), this GPU is SM{sm}",
            "its precisions and kernels were chosen for another GPU",
            "compile it for this device, or --any-device to build it all the same",
        )


def older_release(plan: Plan, api: Api) -> list[str]:
    """A note where TensorRT is older than what the artifacts were written for; RTX counts anew."""
    wanted = numbers_of(plan.tensorrt)
    if api.is_rtx or api.numbers[: len(wanted)] >= wanted:
        return []
    return [f"the bundle was written for TensorRT {plan.tensorrt}, this is {api.version}"]


def check_artifacts(plan: Plan, parts: Iterable[PartPlan]) -> None:
    """Digests of the files that will be built from. Raises EV330 naming those that are others."""
    wanted = {part.path: part.sha256 for part in parts}
    wrong = []
    try:  # weights lie in files of their own, which only the sums of the bundle name
        for line in _sums(plan.bundle / SUMS):
            found = re.fullmatch(r"([0-9a-f]{64})  (tensorrt/[\w.-]+)", line)
            if found:
                wanted.setdefault(plan.bundle / found[2], found[1])
    except ValueError:  # it is no text
        wrong = [SUMS]
    wrong += [path.name for path, digest in wanted.items() if file_digest(path) != digest]
    if wrong:
        raise JobFault(
            "EV330",
            f"bundle {plan.bundle.name} is not what was compiled",
            f"{', '.join(wrong[:3])}: missing or changed",
            "copy the bundle again",
        )


def _sums(path: Path) -> list[str]:
    """Lines; none where there is no such file. Raises ValueError for what is no text of one."""
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_SUMS:
        raise ValueError(f"more than {MAX_SUMS} bytes")
    return path.read_text(encoding="utf-8").splitlines()


def check_room(plan: Plan, folder: Path, cuda: Cuda) -> None:
    """Raises EV354 where a build is sure to run out of disk or memory."""
    size = sum(p.stat().st_size for p in (plan.bundle / "tensorrt").glob("*") if p.is_file())
    place = next(p for p in (folder, *folder.resolve().parents) if p.is_dir())
    disk = shutil.disk_usage(place).free
    memory = memory_free(cuda)
    for what, has, needs in (
        (f"disk space at {place}", disk, DISK * size),
        ("memory", memory, size + ASIDE),
    ):
        if has < needs:
            raise JobFault(
                "EV354",
                f"not enough {what} to build engines",
                f"{has / 2**20:.0f} MiB are free, at least {needs / 2**20:.0f} MiB are needed",
                "close other programs, free some space, or --engines FOLDER on another disk",
            )


def memory_free(cuda: Cuda) -> int:
    """Bytes that the GPU and the processor can still have: the lesser, where each has its own.

    An integrated GPU is given pages that hold a cache of files as well, which its own figure leaves
    out; and hashing the artifacts has just filled that cache.
    https://docs.nvidia.com/cuda/cuda-for-tegra-appnote/ (estimating allocatable device memory)
    """
    free, _ = cuda.memory()
    try:
        told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        told = None
    if not told:
        return free
    available = int(told[1]) * 1024
    return available if cuda.integrated else min(free, available)
