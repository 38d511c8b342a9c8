"""What every runtime offers: lower to artifacts, open a bundle, profile ops, say what it needs.

A device opens bundles with these same classes and has no onnx (commands/carry.py), so whatever
lowering takes is imported inside the methods that lower.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.manifest import Artifact, Golden
from edgevlm.runtimes.preflight import Preflight, Table
from edgevlm.runtimes.times import LayerTime, NodeTime, OpTime, by_op, by_part

if TYPE_CHECKING:
    from edgevlm.compiler.beside import ProbeInput
    from edgevlm.compiler.executor import PartCaller
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.compiler.reference import Reference
    from edgevlm.devices import Device
    from edgevlm.devices.connect import session as connect
    from edgevlm.runtimes.bench import Asked, Run

__all__ = [
    "Capabilities",
    "LayerTime",
    "NodeTime",
    "OpTime",
    "Preflight",
    "Runtime",
    "Shown",
    "Table",
    "by_op",
    "by_part",
]

PROFILED_RUNS = 20


@dataclass(frozen=True)
class Capabilities:
    """What the legaliser lets through."""

    opset: int  # highest opset of the default domain
    ops: frozenset[str]
    dtypes: frozenset[str]  # of graph values, onnx names
    tables: bool = False  # it looks weights up in tables (compiler/palettes.py)


@dataclass(frozen=True)
class Shown:
    """What a bundle's artifacts do on this host, for who compares with it on the device.

    goldens, probes: the same pictures and questions, with their answers and as numbers; seen: what
    the artifacts did on them; parts: the artifacts, opened.
    """

    goldens: Sequence[Golden]
    probes: Sequence[ProbeInput]
    seen: Reference
    parts: PartCaller


class Runtime(ABC):
    name: ClassVar[str]
    extra: ClassVar[str | None] = None  # pip extra that brings its packages
    architectures: ClassVar[tuple[str, ...]] = ()  # that it runs on, as `uname -m` names them
    runs_with: ClassVar[tuple[str, ...]] = ()  # packages that run its bundles where edgevlm is not
    runs_on: ClassVar[tuple[int, int]] = (3, 11)  # the least Python there
    #: what the system's own Python must have there, and the call that brings it
    of_the_system: ClassVar[tuple[str, str] | None] = None
    carried: ClassVar[tuple[str, ...]] = ()  # modules that run bundles there, imported when asked
    #: float weights are made of stored integers when a part is opened, but for integer products
    folds_weights: ClassVar[bool] = False
    #: this host runs its artifacts as the device does; else times taken here say nothing of it
    runs_here: ClassVar[bool] = True
    #: it rounds what it lowers: artifacts are held to what rounding leaves of their float graphs
    rounds: ClassVar[bool] = False
    #: rows that are rounded as they come get scales and zero points of its kernels' own
    rounds_rows: ClassVar[bool] = False
    #: what runs its artifacts on this host in place of the device
    proved_by: ClassVar[str] = "ONNX Runtime on the host"
    sample: ClassVar[str | None] = None  # the package whose folder sample/ bundles carry
    sample_of: ClassVar[tuple[str, ...]] = ("vlm",)  # kinds of bundles that it runs
    #: artifacts are ONNX files, a part each; else a bundle has graphs without weights beside them
    onnx_artifacts: ClassVar[bool] = True
    opening_checks: ClassVar[bool] = False  # reads all that `check` does: no need of both
    has_preflight: ClassVar[bool] = False
    has_runner: ClassVar[bool] = False  # a program of its own times parts where Python is not
    engine: ClassVar[str] = "not needed"  # of the manifest: what the device still has to build

    def aimed_at(self, device: Device, toolchain: str | None = None) -> Runtime:
        """This runtime for one device, and the version of a toolchain where one is named.

        Raises UsageFault EV220 where there is nothing to name, EV308 for a version it has not.
        """
        if toolchain is not None:
            raise UsageFault(
                "EV220",
                f"--toolchain {toolchain[:60]} for {device.id}",
                f"runtime {self.name} makes its artifacts with what is installed here",
                "leave it out",
            )
        return self

    def fitted_to(self, seen: Callable[[], Reference]) -> Runtime:
        """This runtime with what the parts are fed, for one that fits ranges while it lowers."""
        return self

    def check_recipe(self, recipe: Recipe) -> None:  # noqa: B027  (most learn it when they lower)
        """Raises EV303 for what the device cannot compute, before any pass has run."""

    def known_facts(self) -> list[tuple[str, str, str]]:
        """(what, what is known of it, how that is known) of the device and its toolchain."""
        return []

    @property
    def notes(self) -> tuple[str, ...]:
        """What who compiles must know of this runtime as it is aimed."""
        return ()

    @property
    def also(self) -> tuple[Runtime, ...]:
        """Others whose artifacts go into the same bundle, for systems that this one is not for."""
        return ()

    @property
    def sdk(self) -> dict[str, str]:
        """Versions on the device that artifacts are written for; {}: any."""
        return {}

    def unit_of(self, sdk: Mapping[str, str]) -> str | None:
        """Kind of the unit that a bundle with this `sdk` runs on; None: the device's first."""
        return None

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the legaliser lets through."""

    @abstractmethod
    def toolchain(self) -> dict[str, str]:
        """Versions of the packages that make and run its artifacts. Raises EV302 if missing."""

    @abstractmethod
    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Write artifacts of every part into `folder`/<name>/."""

    def write_for_device(  # noqa: B027  (most run there what runs here)
        self,
        model: ExportedModel,
        folder: Path,
        artifacts: Sequence[Artifact],
        shown: Shown,
    ) -> None:
        """More files of a bundle, for who builds and runs it on the device."""

    def write_sample(self, folder: Path, kind: str = "vlm") -> None:
        """app/<runtime>/: the least code that runs a bundle in an app, where there is any.

        kind: of the bundle's contract.
        """
        if self.sample is None or kind not in self.sample_of:
            return
        from importlib import resources

        home = folder / "app" / self.name
        home.mkdir(parents=True)
        for file in sorted((resources.files(self.sample) / "sample").iterdir(), key=str):
            (home / file.name).write_bytes(file.read_bytes())

    def preflight(self, folder: Path, artifacts: Sequence[Artifact]) -> Preflight:
        """What a compiler on this host says of the artifacts, of a runtime that `has_preflight`."""
        raise NotImplementedError

    @abstractmethod
    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> PartCaller:
        """A caller for artifacts that `lower` wrote, where this host can run them."""

    def check(self, bundle: Bundle) -> None:
        """Read the artifacts for what is missing, truncated or points elsewhere.

        By opening them, where a runtime says no other way.
        """
        manifest = bundle.manifest
        self.open_artifacts(bundle.folder, manifest.artifacts, manifest.contract)

    def open(self, bundle: Bundle, *, checked: bool = False) -> PartCaller:
        """A caller for the bundle's parts; `checked`: `check` has been called for these files."""
        if not checked and not self.opening_checks:
            self.check(bundle)
        manifest = bundle.manifest
        return self.open_artifacts(bundle.folder, manifest.artifacts, manifest.contract)

    def check_timed(self, bundle: Bundle) -> None:  # noqa: B027  (most run here)
        """Raises EV434 for a bundle that this machine runs otherwise than its device does."""

    @abstractmethod
    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        """Time by node and the unit that ran it, from the runtime's own profiler."""

    def profile_ops(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[OpTime]:
        """The same, summed by op."""
        return by_part(self.profile_layers(bundle, runs))

    def profile_report(self, bundle: Bundle, how: str = "measured-host") -> dict[str, Any]:
        """What `edgevlm profile --ops` adds to its JSON: both, of the same runs.

        how: of what the runtime measured; what it estimated stays an estimate.
        """
        layers = self.profile_layers(bundle)
        rows = {"ops": by_part(layers), "layers": layers}
        return {
            name: [
                vars(row) | ({"how": how} if row.how.startswith("measured-") else {}) for row in of
            ]
            for name, of in rows.items()
        }

    def estimate(self, bundle: Bundle, ops: bool = False) -> dict[str, Any] | None:
        """What the device's own compiler estimated, as a preflight's JSON; ops: `layers` too."""
        return None

    def bench_there(
        self,
        bundle: Bundle,
        device: connect.Device,
        asked: Asked,
        progress: Callable[[int, int], None],
        keep: bool,
    ) -> AbstractContextManager[Run]:
        """All that is needed is there; what runs it. For a runtime that `has_runner`.

        progress: bytes copied, and in all. keep: leave the copy there. Raises EV433 (no such
        program), EV435-EV439 (the device).
        """
        raise NotImplementedError

    def time_nodes(
        self, folder: Path, artifacts: Sequence[Artifact], runs: int
    ) -> dict[str, float]:
        """ms a run by PART/NODE, as the graph that was lowered names its nodes.

        Empty where the runtime keeps no such names; what it fused goes by one of them.
        """
        return {}
