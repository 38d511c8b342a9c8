"""ExecuTorch: one program a bundle, for the CPU, GPU or NPU of phones, and for micro-NPUs.

    xnnpack    the CPU of any phone or board; this host runs the same kernels, so what is proved and
               timed here is the artifact itself
    vulkan     the GPU of Android; what its delegates are given runs here in our evaluator

The parts are methods of one file: weights that prefill and decode share are in it once, and so are
the caches, which no caller carries about.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import PROFILED_RUNS, Capabilities, LayerTime, Preflight, Runtime
from edgevlm.runtimes.executorch.package import installed

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle
    from edgevlm.compiler.executor import PartCaller
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.devices import Device
    from edgevlm.devices.connect import session as connect
    from edgevlm.runtimes.bench import Asked, Run
    from edgevlm.runtimes.executorch.backends import Backend

__all__ = ["ExecutorchRuntime"]


@dataclasses.dataclass(frozen=True)
class ExecutorchRuntime(Runtime):
    """`backend`: a name of backends.py. `more`: what else it is aimed at, such as a chip."""

    name = "executorch"
    extra = "executorch"
    architectures = ("aarch64", "x86_64", "arm64")
    runs_with = ("executorch", "numpy", "pillow", "pydantic", "tokenizers", "torch")
    onnx_artifacts = False
    sample = "edgevlm.runtimes.executorch"
    carried = (
        "edgevlm.runtimes.executorch.backends",
        "edgevlm.runtimes.executorch.bundle_layers",
        "edgevlm.runtimes.executorch.parts",
    )
    has_preflight = True
    has_runner = True
    rounds_rows = True  # XNNPACK; no other backend takes a rounded model

    backend: str = "xnnpack"
    more: tuple[tuple[str, str], ...] = ()

    def aimed_at(self, device: Device, toolchain: str | None = None) -> ExecutorchRuntime:
        """toolchain: a backend. Raises UsageFault EV308: there is none, or none for the device."""
        from edgevlm.runtimes.executorch.backends import find_backend

        backend = find_backend(toolchain or "xnnpack")
        return dataclasses.replace(
            self, backend=backend.name, more=tuple(backend.fits(device).items())
        )

    @property
    def aimed(self) -> Backend:
        """Raises UsageFault EV308 for a backend that there is not: a bundle may name any."""
        from edgevlm.runtimes.executorch.backends import find_backend

        return find_backend(self.backend)

    @property
    def runs_here(self) -> bool:  # of a Runtime all alike; here of the backend
        return self.aimed.runs_here

    @property
    def proved_by(self) -> str:
        return self.aimed.proved_by

    @property
    def notes(self) -> tuple[str, ...]:
        return self.aimed.notes

    def check_recipe(self, recipe: Recipe) -> None:
        from edgevlm.runtimes.executorch.written import check_schemes

        check_schemes(recipe, self.aimed)

    @property
    def sdk(self) -> dict[str, str]:
        return {"backend": self.backend} | dict(self.more)

    def unit_of(self, sdk: Mapping[str, str]) -> str | None:
        """Of its backend, whichever units the device has."""
        from edgevlm.runtimes.executorch.backends import BACKENDS

        backend = BACKENDS.get(sdk.get("backend", ""))
        return backend and backend.unit

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.executorch.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        """Raises EV302; EV362 for an SDK of the backend's maker that is not here."""
        return installed() | self.aimed.tools()

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Raises EV303 naming part and node, EV309 with the backend's words."""
        from edgevlm.compiler.legalise import legalise
        from edgevlm.runtimes.executorch.expects import expected_kernels
        from edgevlm.runtimes.executorch.lower import lower
        from edgevlm.runtimes.executorch.nodes import NODES, nodes_text
        from edgevlm.runtimes.executorch.written import written

        legalise(model, self.name, self.capabilities)
        lowered, portable = lower(model, self.aimed, dict(self.more)), self.aimed.portable
        file = f"{self.name}/model.pte"
        (folder / self.name).mkdir()
        (folder / file).write_bytes(lowered.data)
        (folder / self.name / NODES).write_text(nodes_text(lowered.nodes))
        return [
            Artifact(
                role=role,
                file=file,
                settings={
                    "method": role,
                    "placed": lowered.placed[role],
                    "expects": expected_kernels(written(role, part, portable)),
                },
            )
            for role, part in model.parts.items()
        ]

    def preflight(self, folder: Path, artifacts: Sequence[Artifact]) -> Preflight:
        """Raises EV309 for integers that became floats."""
        from edgevlm.runtimes.executorch.preflight import preflight

        return preflight(folder, artifacts, self.aimed)

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> PartCaller:
        """Raises EV302, EV303, EV304 (does not load, or has other methods), EV362."""
        self.aimed.tools()
        if self.aimed.evaluated:
            from edgevlm.runtimes.executorch.evaluate.parts import EvaluatedParts

            return EvaluatedParts(folder, artifacts, contract)
        from edgevlm.runtimes.executorch.parts import ProgramParts

        return ProgramParts(folder, artifacts, contract)

    def open(self, bundle: Bundle, *, checked: bool = False) -> PartCaller:
        manifest = bundle.manifest
        return self._of(bundle).open_artifacts(bundle.folder, manifest.artifacts, manifest.contract)

    def check(self, bundle: Bundle) -> None:
        """Opening it reads all of it. Raises EV304."""
        self.open(bundle)

    def check_timed(self, bundle: Bundle) -> None:
        backend = self._of(bundle).aimed
        if backend.runs_here:
            return
        raise UsageFault(
            "EV434",
            f"the time of {bundle.folder.name} on this machine",
            f"this host has no {backend.name}: an evaluator runs the program, for its numbers",
            backend.timed.replace("BUNDLE", shlex.quote(str(bundle.folder))),
        )

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        """Every method on zeros. Raises EV307, EV360, EV434."""
        from edgevlm.runtimes.executorch.bundle_layers import bundle_layers

        self.check_timed(bundle)
        return bundle_layers(bundle, runs)

    def _of(self, bundle: Bundle) -> ExecutorchRuntime:
        """Aimed at what the bundle is for."""
        sdk = bundle.manifest.target.sdk
        return dataclasses.replace(self, backend=sdk.get("backend", self.backend))

    def bench_there(
        self,
        bundle: Bundle,
        device: connect.Device,
        asked: Asked,
        progress: Callable[[int, int], None],
        keep: bool,
    ) -> AbstractContextManager[Run]:
        """By executor_runner, which is there or is brought. Raises EV360, EV361 too."""
        from edgevlm.runtimes.executorch.android.bench import bench_there

        return bench_there(bundle, device, asked, progress, keep)
