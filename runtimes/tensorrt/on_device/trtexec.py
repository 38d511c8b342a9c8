"""The same builds by NVIDIA's own tool, for whoever trusts no script; and what it leaves, read.

The forms of its files are those that its source writes; no file of a real run was at hand.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Callable, TypeVar

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import numbers_of
from edgevlm.runtimes.tensorrt.on_device.expect import compare_kernels
from edgevlm.runtimes.tensorrt.on_device.kernels import summary
from edgevlm.runtimes.tensorrt.on_device.layers import Row, rows_of_inspector
from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan

__all__ = ["command_of", "read_layers", "read_profile", "read_run", "read_times"]

T = TypeVar("T")
MAX_BYTES = 64 * 2**20
#: JetPack does not put it on the PATH
TRTEXEC = "/usr/src/tensorrt/bin/trtexec"


def command_of(part: PartPlan, folder: Path, release: str, workspace: int | None) -> str:
    """One line for a shell. release: of TensorRT, which is strongly typed unasked from 11 on."""
    words = [
        TRTEXEC,
        f"--onnx={part.path}",
        *(["--stronglyTyped"] if numbers_of(release) < (11,) else []),
        "--noTF32",
        f"--saveEngine={folder / part.role}.engine",
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={folder / part.role}.layers.json",
        f"--exportProfile={folder / part.role}.profile.json",
        f"--exportTimes={folder / part.role}.times.json",
        "--separateProfileRun",  # or the profiler slows down what is timed
        "--useCudaGraph",
        *([f"--memPoolSize=workspace:{workspace // 2**20}"] if workspace else []),
    ]
    shapes = ("minShapes", "optShapes", "maxShapes")
    for i, key in enumerate(shapes if part.profile else ()):
        sizes = (f"{name}:{'x'.join(map(str, s[i]))}" for name, s in part.profile.items())
        words.append(f"--{key}={','.join(sizes)}")
    return " ".join(map(shlex.quote, words))


def read_run(part: PartPlan, folder: Path) -> dict[str, Any]:
    """What a run of `command_of` left, as a part is told of in a report. Raises EV357."""
    rows, times = (
        read(folder / f"{part.role}.{name}.json")
        for read, name in ((read_layers, "layers"), (read_times, "times"))
    )
    counts = summary(rows)
    p50, p90 = (float(np.percentile(times, at)) if times else 0.0 for at in (50, 90))
    return {
        "role": part.role,
        "summary": counts,
        "expects": [
            verdict.as_json() for verdict in compare_kernels(counts, part.expects, named=False)
        ],
        "run_ms": {"p50_ms": p50, "p90_ms": p90, "n": len(times)},
        "layer_ms": read_profile(folder / f"{part.role}.profile.json"),
        "layers": rows,
    }


def read_layers(path: Path) -> list[Row]:
    """Of --exportLayerInfo. Raises EV357."""
    return _read(path, rows_of_inspector)


def read_profile(path: Path) -> dict[str, float]:
    """Of --exportProfile: mean milliseconds a layer. Raises EV357."""

    def means(text: str) -> dict[str, float]:
        told = [row for row in _rows(text) if "name" in row and "averageMs" in row]
        return {str(row["name"]): _milliseconds(row["averageMs"]) for row in told}

    return _read(path, means)


def read_times(path: Path) -> list[float]:
    """Of --exportTimes: milliseconds on the GPU of each run. Raises EV357."""

    def runs(text: str) -> list[float]:
        return [_milliseconds(r["computeMs"]) for r in _rows(text) if "computeMs" in r]

    return _read(path, runs)


def _read(path: Path, parse: Callable[[str], T]) -> T:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _broken(path, error) from error


def _rows(text: str) -> list[dict[str, Any]]:
    """Both files are lists of tables; the first of a profile is the count of runs."""
    told = json.loads(text)
    if not isinstance(told, list) or not all(isinstance(row, dict) for row in told):
        raise ValueError("it is no list of tables")
    return told


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{str(value)[:40]!r} is no time")
    if not 0 <= float(value) < float("inf"):  # not a number is not within, either
        raise ValueError(f"a time of {value} ms")
    return float(value)


def _broken(path: Path, error: Exception) -> JobFault:
    return JobFault(
        "EV357",
        f"{path} is not what trtexec leaves",
        str(error)[:300] or type(error).__name__,
        "run the line that `python3 build_on_device.py --trtexec FOLDER` prints, and wait for it",
    )
