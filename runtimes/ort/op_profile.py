"""Time by op, from ONNX Runtime's own profiler: which ops a part spends its time in."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.compiler.still import still_feeds
from edgevlm.runtimes.base import NodeTime, OpTime, by_op
from edgevlm.runtimes.ort import runtime

__all__ = ["node_times", "profile_part", "zero_feeds"]

KERNEL = "_kernel_time"
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def profile_part(path: Path, role: Role, settings: dict[str, Any], runs: int) -> list[OpTime]:
    """Run a part `runs` times on zeros (after 3 that are not counted); slowest op first.

    The profiler itself costs some microseconds a node, so shares are to be trusted, not sums.
    """
    return by_op(role, node_times(path, settings, runs))


def node_times(path: Path, settings: dict[str, Any], runs: int) -> list[NodeTime]:
    """In the order in which they run, the first 3 runs not counted; a unit is a provider."""
    with tempfile.TemporaryDirectory() as scratch:
        session = runtime.open_part(path, settings, profile_to=str(Path(scratch) / "ops"))
        feeds = zero_feeds(session)
        for _ in range(3 + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    micros: dict[tuple[str, str, str | None], list[float]] = defaultdict(list)
    for event in events:
        name, args = event["name"], event.get("args", {})
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            key = args["op_name"], name.removesuffix(KERNEL), args.get("provider")
            micros[key].append(float(event["dur"]))
    return [
        NodeTime(op, name, sum(each[3:]) / 1000 / runs, unit)
        for (op, name, unit), each in micros.items()
    ]


def zero_feeds(session: Any) -> dict[str, np.ndarray]:
    """For every input of a static session, as compiler/still.py has them."""
    return still_feeds((i.name, DTYPES[i.type], i.shape) for i in session.get_inputs())
