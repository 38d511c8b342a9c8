"""Time by op, from OpenVINO's own counters: which kernels a part spends its time in.

Rows are named as the plugin names node and kernel, so that `FullyConnected... brgemm_avx512_i8`
tells an int8 product from a float one. The plugin counts whole microseconds a node: of parts that
take less than a millisecond only the large nodes are seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.runtimes.base import OpTime
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part

__all__ = ["profile_part", "zero_inputs"]

WARM_UP = 3
#: of nodes that became part of another one, and of those that are no work
FUSED, NO_WORK = "undef", ("Parameter", "Result", "Reshape")


def profile_part(path: Path, role: Role, settings: dict[str, Any], runs: int) -> list[OpTime]:
    """Run a part `runs` times on zeros (after 3 that are not counted); slowest op first."""
    part = OpenPart(compile_part(path, settings, counted=True))
    inputs = zero_inputs(part)
    for _ in range(WARM_UP):
        part.run(inputs)
    before = part.request.get_profiling_info()
    for _ in range(runs):
        part.run(inputs)
    return _rows(role, before, part.request.get_profiling_info(), runs)


def _rows(role: Role, before: Sequence[Any], after: Sequence[Any], runs: int) -> list[OpTime]:
    """Counters are means over all runs since the part was compiled."""
    ms: dict[str, float] = defaultdict(float)
    nodes: dict[str, int] = defaultdict(int)
    for warm, node in zip(before, after, strict=True):
        if node.exec_type == FUSED or node.node_type in NO_WORK:
            continue
        op = f"{node.node_type} {node.exec_type}"
        spent = [n.real_time.total_seconds() for n in (node, warm)]
        ms[op] += max(0.0, spent[0] * (WARM_UP + runs) - spent[1] * WARM_UP) * 1000 / runs
        nodes[op] += 1
    whole = sum(ms.values()) or 1.0
    return [
        OpTime(role, op, nodes[op], ms[op], ms[op] / whole, "measured-host")
        for op in sorted(ms, key=lambda op: -ms[op])
    ]


def zero_inputs(part: OpenPart) -> list[np.ndarray]:
    """Zeros for every input; masks let everything through."""
    return [np.full_like(own, own.dtype == np.bool_) for own in part.inputs]
