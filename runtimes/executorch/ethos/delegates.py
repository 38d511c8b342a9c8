"""What of a lowered program went to the NPU, and what Vela says of each piece.

A part that is cut by an op the NPU lacks has several delegates. Vela writes its tables under one
name, so the last would hide the others: here it is called again for each, in a folder of its own.
Its program is then the same, byte for byte, or something is wrong; that also tells which TOSA graph
belongs to which delegate.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from edgevlm.runtimes.executorch.ethos.graph import DELEGATE, DEQUANTIZE, ITEM, QUANTIZE, op_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

__all__ = ["Delegate", "delegates_of", "outside", "refusals"]

_SUMMARY, _LAYERS = "out_summary_*.csv", "out_per-layer.csv"


@dataclass(frozen=True)
class Delegate:
    """`program`: what runs on the NPU. `nodes`: calls of ops that went into it."""

    tosa: bytes
    program: bytes
    summary: Path
    layers: Path
    nodes: int


def outside(program: ExportedProgram, told: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Ops that stay on the CPU: {op: {"nodes", "why"}}; {}: none but quantize and dequantize.

    told: what `refusals` gave, of one node of the op.
    """
    boundary = (DELEGATE, ITEM, QUANTIZE, DEQUANTIZE)
    names = [op_of(node) for node in program.graph_module.graph.nodes]
    found = Counter(name for name in names if name and name not in boundary)
    return {name: {"nodes": n, "why": told.get(name)} for name, n in found.items()}


@contextlib.contextmanager
def refusals() -> Iterator[dict[str, str]]:
    """Filled with op -> why the partitioner refused a node of it, in its words, while it runs.

    It says so in a table for its log only, so its own note-taker is stood in for.
    """
    from executorch.backends.arm.tosa import partitioner

    told: dict[str, str] = {}

    class Listening(partitioner.WhyNoPartitionReporter):
        def report_reject(self, node: Node, reason: str) -> None:
            told.setdefault(op_of(node) or node.op, " ".join(reason.split())[:300])
            super().report_reject(node, reason)

    with mock.patch.object(partitioner, "WhyNoPartitionReporter", Listening):
        yield told


def delegates_of(program: ExportedProgram, spec: Any, graphs: Sequence[Path]) -> list[Delegate]:
    """In the order of the program. Raises RuntimeError where a graph and a delegate do not fit.

    spec: the EthosUCompileSpec that it was lowered with. graphs: .tosa files that were written
    meanwhile, by relative paths without spaces: Vela's arguments are cut at those.
    """
    made = {}
    for i, path in enumerate(sorted(graphs)):
        tosa, folder = path.read_bytes(), path.parent / f"vela-{i}"
        made[_compiled(tosa, spec, folder)] = (tosa, folder / "output")
    found = []
    for lowered in _lowered_modules(program):
        if lowered.processed_bytes not in made:
            raise RuntimeError("Vela made two programs of one TOSA graph")
        tosa, folder = made[lowered.processed_bytes]
        nodes = sum(n.op == "call_function" for n in lowered.original_module.graph.nodes)
        summary = next(folder.glob(_SUMMARY))
        found.append(Delegate(tosa, lowered.processed_bytes, summary, folder / _LAYERS, nodes))
    return found


def _compiled(tosa: bytes, spec: Any, folder: Path) -> bytes:
    """The program that Vela makes of a graph; its tables are below `folder` then."""
    from executorch.backends.arm.arm_vela import vela_compile

    folder.mkdir()
    flags = [*spec.compiler_flags, "--verbose-performance"]  # which writes the table of layers
    return vela_compile(tosa, flags, intermediate_path=str(folder)).processed_bytes


def _lowered_modules(program: ExportedProgram) -> list[Any]:
    """Delegates in the order of their calls."""
    module = program.graph_module
    calls = [node for node in module.graph.nodes if op_of(node) == DELEGATE]
    return [getattr(module, node.args[0].target) for node in calls]
