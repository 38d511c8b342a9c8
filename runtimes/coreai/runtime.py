"""Core AI: one asset a bundle, for iOS, iPadOS and macOS from 27 on.

    coreai/model.aimodel/    main.mlirb  the program: a function a part, weights once
                             main.hash, metadata.json

The wheel of coreai-core runs it here too, on the CPU: what is proved is the artifact itself. An
iPhone specialises it for its own CPU, GPU and Neural Engine when it first loads it, so that times
taken here would say nothing of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import PROFILED_RUNS, Capabilities, LayerTime, Runtime
from edgevlm.runtimes.coreai.package import installed

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.runtimes.coreai.asset import AssetParts

__all__ = ["CoreAiRuntime"]


class CoreAiRuntime(Runtime):
    name = "coreai"
    extra = "coreai"
    architectures = ("arm64", "aarch64", "x86_64")
    runs_with = ("coreai-torch", "numpy", "pillow", "pydantic", "tokenizers")
    carried = ("edgevlm.runtimes.coreai.asset",)
    runs_here = False
    onnx_artifacts = False
    sample = "edgevlm.runtimes.coreai"
    proved_by = "Core AI's CPU runtime on the host"
    engine = "made on the device when it first loads the asset"

    @property
    def sdk(self) -> dict[str, str]:
        from edgevlm.runtimes.coreai.asset import MINIMUM_OS

        return {"ios": MINIMUM_OS, "macos": MINIMUM_OS}

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.coreai.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        return installed()

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Raises EV302, and EV303 naming the part, and the node or the op of torch."""
        from edgevlm.compiler.legalise import legalise
        from edgevlm.runtimes.coreai.asset import PROGRAM, SUFFIX
        from edgevlm.runtimes.coreai.lower import lower

        legalise(model, self.name, self.capabilities)
        installed()
        (folder / self.name).mkdir()
        home = f"{self.name}/model{SUFFIX}"
        lower(model, folder / home)
        return [
            Artifact(role=role, file=f"{home}/{PROGRAM}", settings={"function": role})
            for role in model.parts
        ]

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> AssetParts:
        """Raises EV302, EV304 (does not load, or has other functions or ports), EV322."""
        from edgevlm.runtimes.coreai.asset import AssetParts

        return AssetParts(folder, artifacts, contract)

    def check(self, bundle: Bundle) -> None:
        """Opens it, elsewhere. Raises as `open_artifacts`."""
        from edgevlm.runtimes.coreai.trial import try_opening

        try_opening(bundle.folder, bundle.manifest.artifacts, bundle.manifest.contract)

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        raise _elsewhere(bundle)

    def check_timed(self, bundle: Bundle) -> None:
        raise _elsewhere(bundle)


def _elsewhere(bundle: Bundle) -> UsageFault:
    device = bundle.manifest.target.device
    return UsageFault(
        "EV434",
        f"the time of {bundle.folder.name} on this machine",
        f"{device} makes kernels of its own of the asset; here its parts run on the CPU, for their "
        "numbers alone",
        f"edgevlm run {shlex.quote(str(bundle.folder))} ...; docs/phones.md has what to do there",
    )
