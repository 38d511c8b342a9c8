"""ONNX Runtime on the host CPU: the parts as they are, one ONNX file each, weights in one file.

int8 weights are made float once, when a session is opened: the file is small, the arithmetic is that
of the graph. ONNX Runtime could keep them int8, but then it rounds activations to int8 as well (37 dB
a chain of 8 products, faster only on one row of 576 channels or more: benchmarks/bench_ort_int8.py). That is
another scheme and must be asked for, not slipped in.

`threads` is 1 for a part too small to share: starting workers costs more than it saves.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.legalise import legalise
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.weights import WeightWriter, save_graph
from edgevlm.runtimes.base import OpTime, Runtime
from edgevlm.runtimes.ort.capabilities import CAPABILITIES

__all__ = ["OrtRuntime", "open_part"]

#: multiply-accumulates of one run from which a second thread pays
SHARED_MACS = 100_000_000


class OrtParts:
    """The sessions of a bundle, opened at once so that the first answer is not slower."""

    def __init__(self, folder: Path, artifacts: list[Artifact]) -> None:
        self.sessions = {a.role: open_part(folder / a.file, a.settings) for a in artifacts}
        self.names = {role: [o.name for o in s.get_outputs()] for role, s in self.sessions.items()}

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        names = self.names[role]
        return dict(zip(names, self.sessions[role].run(names, feeds), strict=True))


class OrtRuntime(Runtime):
    name = "ort"
    capabilities = CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        return {"onnxruntime": version("onnxruntime"), "onnx": version("onnx")}

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        legalise(model, self.name, self.capabilities)
        home = folder / self.name
        home.mkdir()
        artifacts = []
        with WeightWriter(home) as writer:
            for role, part in model.parts.items():
                path = home / f"{role}.onnx"
                save_graph(part, path, writer)
                shared = count(part).macs >= SHARED_MACS
                settings = {"threads": 0 if shared else 1}
                artifacts.append(
                    Artifact(role=role, file=f"{self.name}/{role}.onnx", settings=settings)
                )
        return artifacts

    def open(self, bundle: Bundle) -> OrtParts:
        return OrtParts(bundle.folder, list(bundle.manifest.artifacts))

    def profile_ops(self, bundle: Bundle, runs: int = 20) -> list[OpTime]:
        from edgevlm.runtimes.ort.op_profile import profile_part

        return [
            row
            for a in bundle.manifest.artifacts
            for row in profile_part(bundle.folder / a.file, a.role, a.settings, runs)
        ]


def open_part(path: Path, settings: dict[str, Any], profile_to: str | None = None) -> Any:
    """A session with the settings of the manifest. Raises EV304 with ONNX Runtime's reason."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(settings.get("threads", 0)) or len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    # without QDQ handling, DequantizeLinear of a constant is folded like any other constant
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_to
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise JobFault(
            "EV304",
            f"artifact {path.name} does not load",
            str(error).splitlines()[0][:300],
            f"edgevlm verify {path.parent.parent}",
        ) from error
