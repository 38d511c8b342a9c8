"""Time by op, from ONNX Runtime's own profiler: which ops a part spends its time in."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.runtimes.base import OpTime
from edgevlm.runtimes.ort import runtime

__all__ = ["profile_part", "zero_feeds"]

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def profile_part(path: Path, role: Role, settings: dict[str, Any], runs: int) -> list[OpTime]:
    """Run a part `runs` times on zeros (after 3 that are not counted); slowest op first.

    The profiler itself costs some microseconds a node, so shares are to be trusted, not sums.
    """
    with tempfile.TemporaryDirectory() as scratch:
        session = runtime.open_part(path, settings, profile_to=str(Path(scratch) / "ops"))
        feeds = zero_feeds(session)
        for _ in range(3 + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    micros: dict[str, list[float]] = defaultdict(list)
    nodes: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            op = event["args"]["op_name"]
            micros[op].append(float(event["dur"]))
            nodes[op].add(event["name"])
    rows = []
    for op, durations in micros.items():
        warm = len(nodes[op]) * 3  # events come in run order
        rows.append((op, sum(durations[warm:]) / 1000 / runs))
    total = sum(ms for _, ms in rows) or 1.0
    return [
        OpTime(role, op, len(nodes[op]), ms, ms / total, "measured-host")
        for op, ms in sorted(rows, key=lambda row: -row[1])
    ]


def zero_feeds(session: Any) -> dict[str, np.ndarray]:
    """Zeros for every input of a static session; masks let everything through."""
    return {
        i.name: np.ones(i.shape, bool)
        if i.type == "tensor(bool)"
        else np.zeros(i.shape, DTYPES[i.type])
        for i in session.get_inputs()
    }
