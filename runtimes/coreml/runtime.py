"""Core ML: one package for iPhones and Macs of iOS 18 (macOS 15) and later.

From iOS 27 on there is Core AI as well: `--os 27` asks for that alone, `--os 18` to `26` for this
alone, and without it a bundle has both, each proved by itself.

A compile proves the package in our evaluator (mil_evaluator.py), wherever it is made: Core ML's own
runtime is on Apple's systems alone. On a Mac a bundle is then opened by Core ML itself (on_mac.py),
which answers, is timed, and is reached by `profile --device ssh://...`. What an iPhone takes for it
is measured there.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes import find_runtime
from edgevlm.runtimes.base import (
    PROFILED_RUNS,
    Capabilities,
    LayerTime,
    Preflight,
    Runtime,
)
from edgevlm.runtimes.coreml.package import installed

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle
    from edgevlm.compiler.executor import PartCaller
    from edgevlm.compiler.exported_model import ExportedModel
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.devices import Device
    from edgevlm.runtimes.coreml.parts import PackageParts

__all__ = ["CoremlRuntime"]

OLDEST, NEWEST, CORE_AI = 18, 26, 27
#: in the name of a device: iPhone 16 Pro (A18 Pro)
CHIP = re.compile(r"\bA([0-9]{2})\b")
OS = re.compile(r"(?:ios-?)?([0-9]{1,2})(?:\.[0-9]{1,2})?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class CoremlRuntime(Runtime):
    """`ios`: the oldest that the package runs on. `chip`: generation of an A-chip, where known."""

    name = "coreml"
    extra = "coreml"
    architectures = ("arm64", "aarch64")
    runs_with = ("coremltools", "numpy", "packaging", "pillow", "pydantic", "tokenizers")
    carried = ("edgevlm.runtimes.coreml.on_mac",)
    runs_here = False
    proved_by = "our evaluator of Core ML programs, on the host"
    onnx_artifacts = False
    sample = "edgevlm.runtimes.coreml"
    opening_checks = True
    has_preflight = True

    ios: int = OLDEST
    both: bool = False  # Core AI, too
    chip: int | None = None

    def aimed_at(self, device: Device, toolchain: str | None = None) -> Runtime:
        """toolchain: `ios-18` to `ios-27`; from 27 on it is Core AI; `executorch`: a program of
        that whose delegates are Core ML's. Raises UsageFault EV308."""
        chip = CHIP.search(device.name)
        aimed = dataclasses.replace(self, chip=int(chip[1]) if chip else None)
        if toolchain is None:
            return dataclasses.replace(aimed, both=True)
        if toolchain == "executorch":
            return find_runtime("executorch").aimed_at(device, "coreml")
        found = OS.fullmatch(toolchain.strip())
        if found is not None and int(found[1]) == CORE_AI:
            return find_runtime("coreai")
        if found is None or not OLDEST <= int(found[1]) <= NEWEST:
            raise UsageFault(
                "EV308",
                f"{toolchain[:40]!r} for Core ML on {device.id}",
                f"states and blocks of four-bit weights came with iOS {OLDEST}; coremltools knows "
                f"up to {NEWEST}, and {CORE_AI} is Core AI",
                f"--os {OLDEST}, which every later one runs as well",
            )
        # what iOS 26 adds to the format is nothing that our programs use
        return dataclasses.replace(aimed, ios=OLDEST if int(found[1]) < NEWEST else NEWEST)

    def check_recipe(self, recipe: Recipe) -> None:
        """Raises EV303 for scales of run time, which Core ML has no op for, and caches of codes."""
        if any(step.name == "quantize-kv" for step in recipe.steps):
            raise JobFault(
                "EV303",
                "caches of 8 bits cannot be lowered for Core ML",
                "its states are float16",
                "--kv float;  --os 27 for Core AI, whose states may be codes",
            )
        for step in recipe.steps:
            blocks = any(
                s.name == "quantize-weights" and s.options.get("block") for s in recipe.steps
            )
            if step.name == "quantize-dynamically" and blocks:
                raise JobFault(
                    "EV303",
                    "inputs rounded by scales of run time cannot be lowered for Core ML",
                    "its quantize takes scales that are constants",
                    "--quant w8a8, or w4a16 (four-bit weights, float inputs)",
                )

    @property
    def also(self) -> tuple[Runtime, ...]:
        return (find_runtime("coreai"),) if self.both and self._core_ai_missing() is None else ()

    @property
    def notes(self) -> tuple[str, ...]:
        missing = self._core_ai_missing() if self.both else None
        return (f"left out, for iOS {CORE_AI}: {missing}",) if missing else ()

    def _core_ai_missing(self) -> str | None:
        try:
            find_runtime("coreai").toolchain()
        except JobFault as fault:
            return f"{fault.what}: {fault.fix}"
        return None

    @property
    def sdk(self) -> dict[str, str]:
        return {"ios": str(self.ios)}

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.coreml.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        return {"coremltools": installed(), "torch": version("torch")}

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        """Raises EV303 naming part and node, EV309 with coremltools' words."""
        from edgevlm.compiler.legalise import legalise, refused
        from edgevlm.runtimes.coreml.convert import PACKAGE, convert

        legalise(model, self.name, self.capabilities)
        if model.contract.kv_dtype == "INT8":
            why = "states of Core ML are float16, and no codes of eight bits"
            raise refused("decode", "its caches", why, "--kv float")
        (folder / self.name).mkdir()
        convert(model, folder / self.name, self.ios)
        file = f"{self.name}/{PACKAGE}/Manifest.json"
        return [Artifact(role=r, file=file, settings={"function": r}) for r in model.parts]

    def preflight(self, folder: Path, artifacts: Sequence[Artifact]) -> Preflight:
        """What the lint predicts, for no compiler of Apple's is here. Raises EV302, EV304."""
        from edgevlm.runtimes.coreml.preflight import preflight

        return preflight(folder, artifacts, self.chip)

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> PackageParts:
        """Raises EV302, EV303, EV304."""
        from edgevlm.runtimes.coreml.parts import PackageParts

        return PackageParts(folder, artifacts, contract)

    def open(self, bundle: Bundle, *, checked: bool = False) -> PartCaller:
        """By Core ML on a Mac, by our evaluator elsewhere. Raises EV302, EV303, EV304."""
        if not _on_a_mac():
            return super().open(bundle, checked=checked)
        from edgevlm.runtimes.coreml.on_mac import CoremlParts

        manifest = bundle.manifest
        return CoremlParts(bundle.folder, manifest.artifacts, manifest.contract)

    def check_timed(self, bundle: Bundle) -> None:
        if _on_a_mac():
            return
        raise UsageFault(
            "EV434",
            f"the time of {bundle.folder.name} on this machine",
            "Core ML runs on Apple's systems; here an evaluator runs the package, for its numbers",
            f"edgevlm profile {shlex.quote(str(bundle.folder))} "
            f"--device {bundle.manifest.target.device}, which predicts; or --device ssh://MAC",
        )

    def profile_layers(self, bundle: Bundle, runs: int = PROFILED_RUNS) -> list[LayerTime]:
        """On a Mac; single ops are estimates there, and labelled so. Raises EV302, EV434."""
        self.check_timed(bundle)
        from edgevlm.runtimes.coreml.on_mac import op_times

        artifacts = bundle.manifest.artifacts
        package = (bundle.folder / artifacts[0].file).parent
        return [row for a in artifacts for row in op_times(package, a.role, runs)]


def _on_a_mac() -> bool:
    return sys.platform == "darwin"
