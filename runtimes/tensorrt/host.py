"""Artifacts for a GPU, run on this host's CPU: their numbers, not their speed.

ONNX Runtime with its optimiser off, as every pass is proved with (its fusions do not load int8
graphs of opset 21). Every float16 result is rounded, as on the GPU (compiler/rounded.py); sums are
those of float32, in another order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.artifact_checks import check_ports, unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.weights import load_graph

__all__ = ["HostParts"]


class HostParts:
    """The parts of a bundle, opened at once."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        self.sessions = {}
        for a in artifacts:
            path = folder / a.file
            graph = load_graph(path)
            check_ports(path, "input", _ports(graph.graph.inputs), contract.inputs(a.role))
            check_ports(path, "output", _ports(graph.graph.outputs), contract.outputs(a.role))
            try:
                self.sessions[a.role] = open_session(graph, len(os.sched_getaffinity(0)))
            except JobFault as fault:
                raise unusable(path, fault.why) from fault
        self.names = {role: [o.name for o in s.get_outputs()] for role, s in self.sessions.items()}

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs of a part by name. Raises EV307 with ONNX Runtime's reason."""
        names = self.names[role]
        try:
            values = self.sessions[role].run(names, dict(feeds))
        except Exception as error:
            raise JobFault(
                "EV307",
                f"artifact {role} failed while it ran",
                str(error).splitlines()[0][-300:],
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error
        return dict(zip(names, values, strict=True))


def _ports(values: Sequence[ir.Value]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(str(v.name), v.dtype.name, tuple(v.shape.numpy())) for v in values]
