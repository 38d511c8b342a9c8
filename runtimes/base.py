"""What every runtime offers: lower to artifacts, open a bundle, profile ops, say what it needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.manifest import Artifact

__all__ = ["Capabilities", "OpTime", "Runtime"]


@dataclass(frozen=True)
class Capabilities:
    """What the legaliser lets through."""

    opset: int  # highest opset of the default domain
    ops: frozenset[str]
    dtypes: frozenset[str]  # of graph values, onnx names


@dataclass(frozen=True)
class OpTime:
    """Time of one op in one part, summed over its nodes; milliseconds a run."""

    role: Role
    op: str
    nodes: int
    ms: float
    share: float  # of the part
    how: str


class Runtime(ABC):
    name: ClassVar[str]
    extra: ClassVar[str | None] = None  # pip extra that brings its packages
    capabilities: ClassVar[Capabilities]

    @abstractmethod
    def toolchain(self) -> dict[str, str]:
        """Versions of the packages that make and run its artifacts. Raises EV302 if missing."""

    @abstractmethod
    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Write artifacts of every part into `folder`/<name>/."""

    @abstractmethod
    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> PartCaller:
        """A caller for artifacts that `lower` wrote, where this host can run them."""

    def open(self, bundle: Bundle) -> PartCaller:
        """A caller for the bundle's parts."""
        manifest = bundle.manifest
        return self.open_artifacts(bundle.folder, manifest.artifacts, manifest.contract)

    @abstractmethod
    def profile_ops(self, bundle: Bundle, runs: int) -> list[OpTime]:
        """Time by op, from the runtime's own profiler."""

    def time_nodes(
        self, folder: Path, artifacts: Sequence[Artifact], runs: int
    ) -> dict[str, float]:
        """ms a run by PART/NODE, as the graph that was lowered names its nodes.

        Empty where the runtime keeps no such names; what it fused goes by one of them.
        """
        return {}
