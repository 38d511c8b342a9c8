"""The same builds by NVIDIA's own tool, for whoever trusts no script; and what it leaves, read.

The forms of its files are those that its source writes; no file of a real run was at hand.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.api import numbers_of
from edgevlm.runtimes.tensorrt.on_device.expect import compare_kernels
from edgevlm.runtimes.tensorrt.on_device.kernels import summary
from edgevlm.runtimes.tensorrt.on_device.layers import Row, rows_of_inspector
from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan

__all__ = ["command_of", "read_layers", "read_profile", "read_run", "read_times"]


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
        "expects": [verdict.as_json() for verdict in compare_kernels(counts, part.expects)],
        "run_ms": {"p50_ms": p50, "p90_ms": p90, "n": len(times)},
        "layer_ms": read_profile(folder / f"{part.role}.profile.json"),
        "layers": rows,
    }


def read_layers(path: Path) -> list[Row]:
    """Of --exportLayerInfo. Raises EV357."""
    try:
        return rows_of_inspector(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def read_profile(path: Path) -> dict[str, float]:
    """Of --exportProfile: mean milliseconds a layer. Raises EV357."""
    return {
        str(row["name"]): float(row["averageMs"])
        for row in _rows(path)
        if "name" in row and "averageMs" in row
    }


def read_times(path: Path) -> list[float]:
    """Of --exportTimes: milliseconds on the GPU of each run. Raises EV357."""
    return [float(row["computeMs"]) for row in _rows(path) if "computeMs" in row]


def _rows(path: Path) -> list[dict[str, Any]]:
    """Both files are lists of tables; the first of a profile is the count of runs."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told, list) or not all(isinstance(row, dict) for row in told):
            raise ValueError("it is no list of tables")
        return told
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> JobFault:
    return JobFault(
        "EV357",
        f"{path} is not what trtexec leaves",
        str(error)[:300],
        "run the line that `python3 build_on_device.py --trtexec FOLDER` prints, and wait for it",
    )
