"""TensorRT: strongly typed ONNX here, engines on the device, and nothing passed off for the other.

    artifact    one ONNX file a part, written for a release and a chip (written.py)
    preflight   what tensorrt-rtx says of it on this host, for the nearest chip (preflight.py)
    engine      built where it runs, by the program that travels in the bundle (on_device/)

On this host the artifacts run on ONNX Runtime's CPU provider, for what they compute (host.py).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import PROFILED_RUNS, Capabilities, LayerTime, Preflight, Runtime, Shown

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle
    from edgevlm.compiler.executor import PartCaller
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.devices import Device
    from edgevlm.runtimes.tensorrt.aim import Aim
    from edgevlm.runtimes.tensorrt.host import HostParts

__all__ = ["TensorRtRuntime"]

#: what runs artifacts on a CPU; it stays behind when modules go to a device
HOST = "edgevlm.runtimes.tensorrt.host"


@dataclasses.dataclass(frozen=True)
class TensorRtRuntime(Runtime):
    """`aim`: None until a device is named."""

    name = "tensorrt"
    extra = "tensorrt"
    architectures = ("aarch64", "x86_64")
    runs_with = ("numpy", "pillow", "pydantic", "tokenizers")
    runs_on = (3, 10)  # of JetPack 6, whose TensorRT is for no other
    of_the_system = ("tensorrt", "sudo apt-get install python3-libnvinfer")
    carried = ("edgevlm.runtimes.tensorrt.engines",)
    runs_here = False
    has_preflight = True
    engine = "not built"

    device: Device | None = None
    aim: Aim | None = None

    def aimed_at(self, device: Device, toolchain: str | None = None) -> TensorRtRuntime:
        """Raises UsageFault EV308 for a toolchain that is none, or not for this chip."""
        from edgevlm.runtimes.tensorrt.aim import aim_at

        return dataclasses.replace(self, device=device, aim=aim_at(device, toolchain))

    def check_recipe(self, recipe: Recipe) -> None:
        chip = self._aim().chip
        float8 = any(step.options.get("number") == "e4m3" for step in recipe.steps)
        if float8 and chip and "FLOAT8E4M3FN" not in chip.types:
            raise JobFault(
                "EV303",
                f"fp8 cannot be lowered for {self.device.id}",
                f"{chip.name} (sm_{chip.sm}) multiplies no fp8",
                "--quant w8a8  (8-bit integers in its place)",
            )

    def known_facts(self) -> list[tuple[str, str, str]]:
        from edgevlm.runtimes.tensorrt.known import known_facts

        return known_facts(self._aim())

    @property
    def sdk(self) -> dict[str, str]:
        return self._aim().as_json()

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.tensorrt.written import capabilities_of

        return capabilities_of(self._aim())

    def toolchain(self) -> dict[str, str]:
        return {name: version(name) for name in ("onnxruntime", "onnx")}

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Raises EV303 for what TensorRT would refuse, or run slower than was asked for."""
        from edgevlm.compiler.weights import WeightWriter, save_graph
        from edgevlm.runtimes.tensorrt.written import written

        home = folder / self.name
        home.mkdir()
        artifacts = []
        with WeightWriter(home) as writer:
            for role, part in model.parts.items():
                graph = written(role, part, self._aim())
                save_graph(graph, home / f"{role}.onnx", writer)
                artifacts.append(Artifact(role=role, file=f"{self.name}/{role}.onnx"))
        return artifacts

    def write_for_device(
        self,
        model: ExportedModel,
        folder: Path,
        artifacts: Sequence[Artifact],
        shown: Shown,
    ) -> None:
        from edgevlm.runtimes.tensorrt.device_files import write_device_files

        write_device_files(model, folder, artifacts, shown, self.device, self._aim())

    def preflight(self, folder: Path, artifacts: Sequence[Artifact]) -> Preflight:
        from edgevlm.runtimes.tensorrt.preflight import preflight

        return preflight(folder, artifacts, self._aim())

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> HostParts:
        """Raises EV304 (does not load, or has other ports)."""
        from edgevlm.runtimes.tensorrt.host import HostParts

        return HostParts(folder, artifacts, contract)

    def open(self, bundle: Bundle, *, checked: bool = False) -> PartCaller:
        """Engines where this machine builds them, else the artifacts on its CPU.

        A device has no second way, and what it lacks for the first is told.
        """
        from edgevlm.runtimes.tensorrt.engines import can_build, open_engines

        if can_build(bundle) or find_spec(HOST) is None:
            return open_engines(bundle)
        return super().open(bundle, checked=checked)

    def check(self, bundle: Bundle) -> None:
        """Raises EV101."""
        from edgevlm.compiler.weights import load_graph

        for artifact in bundle.manifest.artifacts:
            load_graph(bundle.folder / artifact.file)

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        """As TensorRT's profiler has them. Raises EV434 where no engine can be built."""
        from edgevlm.runtimes.tensorrt.engines import open_engines

        self.check_timed(bundle)
        return [
            LayerTime(role, layer, "layer", "GPU", ms, "measured-host")
            for role, layer, ms in open_engines(bundle).layer_times(runs)
        ]

    def check_timed(self, bundle: Bundle) -> None:
        from edgevlm.runtimes.tensorrt.engines import can_build

        if not can_build(bundle):
            raise UsageFault(
                "EV434",
                f"the time of {bundle.folder.name} on this machine",
                f"its engines are built on {bundle.manifest.target.device}, and timed there; here "
                "its parts run on the CPU, for their numbers alone",
                f"edgevlm profile {shlex.quote(str(bundle.folder))} --device ssh://USER@HOST, or "
                f"--device {bundle.manifest.target.device}, which predicts",
            )

    def _aim(self) -> Aim:
        from edgevlm.runtimes.tensorrt.aim import NEWEST, Aim

        return self.aim or Aim(NEWEST)
