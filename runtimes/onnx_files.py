"""Runtimes of this host whose artifacts are ONNX files: one a part, weights in one file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import PROFILED_RUNS, LayerTime, NodeTime, Runtime

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["OnnxFiles"]

#: multiply-accumulates of one run from which a second thread pays
SHARED_MACS = 100_000_000


class OnnxFiles(Runtime):
    """A runtime of this host whose artifacts are ONNX files: one a part, weights in one file."""

    @abstractmethod
    def written(self, part: ir.Model) -> tuple[ir.Model, dict[str, Any]]:
        """The part as the engine runs it fastest, and its settings beside `threads`."""

    @abstractmethod
    def node_times(self, path: Path, settings: dict[str, Any], runs: int) -> list[NodeTime]:
        """Of a part run on zeros, in the order in which its nodes run."""

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """A part too small to share gets one thread: starting workers costs more than it saves."""
        from edgevlm.compiler.cost import count
        from edgevlm.compiler.legalise import legalise
        from edgevlm.compiler.weights import WeightWriter, save_graph

        legalise(model, self.name, self.capabilities)
        home = folder / self.name
        home.mkdir()
        artifacts = []
        with WeightWriter(home) as writer:
            for role, part in model.parts.items():
                graph, settings = self.written(part)
                save_graph(graph, home / f"{role}.onnx", writer)
                threads = {"threads": 0 if count(part).macs >= SHARED_MACS else 1}
                file = f"{self.name}/{role}.onnx"
                artifacts.append(Artifact(role=role, file=file, settings=threads | settings))
        return artifacts

    def check(self, bundle: Bundle) -> None:
        """Raises EV101."""
        from edgevlm.compiler.weights import load_graph

        for artifact in bundle.manifest.artifacts:
            load_graph(bundle.folder / artifact.file)

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        return [
            LayerTime(a.role, node, op, unit, ms, "measured-host")
            for a in bundle.manifest.artifacts
            for op, node, ms, unit in self.node_times(bundle.folder / a.file, a.settings, runs)
        ]

    def time_nodes(
        self, folder: Path, artifacts: Sequence[Artifact], runs: int
    ) -> dict[str, float]:
        return {
            f"{a.role}/{node}": ms
            for a in artifacts
            for _, node, ms, _ in self.node_times(folder / a.file, a.settings, runs)
        }
