"""Time by op, from OpenVINO's own counters: which kernels a part spends its time in.

Rows are named as the plugin names node and kernel, so that `FullyConnected... brgemm_avx512_i8`
tells an int8 product from a float one. The plugin counts whole microseconds a node: of parts that
take less than a millisecond only the large nodes are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.runtimes.base import NodeTime, OpTime, by_op
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part

__all__ = ["node_times", "profile_part", "zero_inputs"]

WARM_UP = 3
#: of nodes that became part of another one, and of those that are no work
FUSED, NO_WORK = "undef", ("Parameter", "Result", "Reshape")
#: what the plugin appends to a product whose scales it took in
SCALED = "/DequantizationMultiply"


def profile_part(path: Path, role: Role, settings: dict[str, Any], runs: int) -> list[OpTime]:
    """Run a part `runs` times on zeros (after 3 that are not counted); slowest op first."""
    return by_op(role, node_times(path, settings, runs))


def node_times(path: Path, settings: dict[str, Any], runs: int) -> list[NodeTime]:
    """In the order in which they run, the first 3 runs not counted; a unit is a plugin's device.

    Nodes go by their names in the file where the plugin kept them.
    """
    compiled = compile_part(path, settings, counted=True)
    unit = ", ".join(compiled.get_property("EXECUTION_DEVICES"))
    part = OpenPart(compiled)
    inputs = zero_inputs(part)
    for _ in range(WARM_UP):
        part.run(inputs)
    before = part.request.get_profiling_info()
    for _ in range(runs):
        part.run(inputs)
    return _spent(before, part.request.get_profiling_info(), runs, unit)


def _spent(
    before: Sequence[Any], after: Sequence[Any], runs: int, unit: str | None = None
) -> list[NodeTime]:
    """Counters are means over all runs since the part was compiled."""
    rows = []
    for warm, node in zip(before, after, strict=True):
        if node.exec_type == FUSED or node.node_type in NO_WORK:
            continue
        seconds = node.real_time.total_seconds() * (WARM_UP + runs)
        seconds -= warm.real_time.total_seconds() * WARM_UP
        op, name = f"{node.node_type} {node.exec_type}", node.node_name.removesuffix(SCALED)
        rows.append(NodeTime(op, name, max(0.0, seconds) * 1000 / runs, unit))
    return rows


def zero_inputs(part: OpenPart) -> list[np.ndarray]:
    """Zeros for every input; masks let everything through."""
    return [np.full_like(own, own.dtype == np.bool_) for own in part.inputs]
