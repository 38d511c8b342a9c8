"""Arm Ethos-U by ExecuTorch and Vela: integers, made and proved in an environment of their own.

The artifacts are programs (.pte), one a piece of a part. On this host the graphs that Vela was
given run in Arm's reference model: the integers of the NPU, and none of its times. Those are
Vela's estimate.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import PROFILED_RUNS, Capabilities, LayerTime, Preflight, Runtime

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.compiler.reference import Reference
    from edgevlm.devices import Device
    from edgevlm.runtimes.executorch.ethos.callers import TosaParts

__all__ = ["EthosRuntime"]

TOOL = "ethos"  # and the runtime by its name
SAMPLES = 32  # inputs that ranges are fitted to: each is one run of every part in torch


@dataclasses.dataclass(frozen=True)
class EthosRuntime(Runtime):
    """`accelerator`: as Vela names it. `seen`: what ranges are fitted to."""

    name = TOOL
    architectures = ("cortex-m",)  # which has no Python
    runs_here = False
    rounds = True
    proved_by = "Arm's TOSA reference model on the host"
    onnx_artifacts = False
    opening_checks = True
    has_preflight = True
    sample = "edgevlm.runtimes.executorch.ethos"
    sample_of = ("vlm", "classifier", "dense")

    accelerator: str = "ethos-u85-256"
    seen: Callable[[], Reference] | None = None

    def aimed_at(self, device: Device, toolchain: str | None = None) -> EthosRuntime:
        """Raises UsageFault EV220 for a toolchain."""
        super().aimed_at(device, toolchain)
        return dataclasses.replace(self, accelerator=device.id)

    def fitted_to(self, seen: Callable[[], Reference]) -> EthosRuntime:
        return dataclasses.replace(self, seen=seen)

    def check_recipe(self, recipe: Recipe) -> None:
        """Raises EV302 (no tool), EV303 for numbers that are rounded before Arm's quantiser."""
        from edgevlm.compiler.workshop.interpreter import interpreter_for

        rounding = [s.name for s in recipe.steps if s.name.startswith("quantize-")]
        if rounding:
            raise JobFault(
                "EV303",
                f"pass {rounding[0]} cannot be lowered for {self.accelerator}",
                "it computes in integers throughout, norms and softmax too, and Arm's quantiser "
                "rounds all of it: what is rounded already would leave the rest to the CPU",
                "leave --quant and --kv out; --calib tells what ranges are fitted to",
            )
        interpreter_for(TOOL)

    @property
    def sdk(self) -> dict[str, str]:
        return {"accelerator": self.accelerator}

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            "integers throughout (weights and functions 8 bits, sums of elements 16), ranges "
            "fitted by Arm's quantiser; drift is that of the rounding",
        )

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.executorch.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        """As they are pinned: nothing else makes the environment. Raises EV190, EV302."""
        from edgevlm.compiler.extras import torch_extra
        from edgevlm.compiler.workshop.interpreter import interpreter_for
        from edgevlm.compiler.workshop.tools import find_tool

        with torch_extra("a part for an Ethos-U is written by torch, which is not installed"):
            if find_spec("torch") is None:
                raise ModuleNotFoundError("it exports the graph that Arm's quantiser takes")
        interpreter_for(TOOL)
        return dict(each.split("==") for each in find_tool(TOOL).here)

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Raises EV303, EV309 (ops that the NPU lacks), EV302, EV305, EV372, EV373,
        EV375 (nothing that ranges could be fitted to)."""
        from edgevlm.compiler.legalise import legalise
        from edgevlm.compiler.reference import Reference
        from edgevlm.runtimes.executorch.ethos.make import make

        legalise(model, self.name, self.capabilities)
        seen = self.seen() if self.seen else Reference([], [], [])
        some = seen.some(range(min(SAMPLES, len(seen.feeds))))
        return make(model, some, self.accelerator, folder)

    def preflight(self, folder: Path, artifacts: Sequence[Artifact]) -> Preflight:
        """Vela's estimate. Raises EV304, EV374."""
        from edgevlm.runtimes.executorch.ethos.estimates import estimates, preflight

        return preflight(estimates(folder, artifacts), artifacts)

    def estimate(self, bundle: Bundle, ops: bool = False) -> dict[str, Any]:
        """Raises EV304, EV374."""
        from edgevlm.runtimes.executorch.ethos.estimates import estimates, layer_times, preflight

        artifacts = bundle.manifest.artifacts
        found = estimates(bundle.folder, artifacts)
        told = preflight(found, artifacts).as_json()
        return told | ({"layers": [vars(row) for row in layer_times(found)]} if ops else {})

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> TosaParts:
        """Raises EV302, EV304, EV372, EV373."""
        from edgevlm.runtimes.executorch.ethos.callers import TosaParts

        return TosaParts(folder, artifacts, contract)

    def check_timed(self, bundle: Bundle) -> None:
        _elsewhere(bundle)

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        """Raises EV434."""
        _elsewhere(bundle)


def _elsewhere(bundle: Bundle) -> NoReturn:
    device = bundle.manifest.target.device
    raise UsageFault(
        "EV434",
        f"the time of {bundle.folder.name} on this machine",
        "a reference model repeats the NPU's integers here, and none of its times",
        f"edgevlm profile {shlex.quote(str(bundle.folder))} --device {device}, which has Vela's "
        "estimate",
    )
