"""ONNX Runtime on the host CPU: the parts as they are, one ONNX file each, weights in one file.

int8 weights are made float once, when a session is opened: the file is small, the arithmetic is
that of the graph. ONNX Runtime could keep them int8, but then it rounds activations to int8 as well
(37 dB a chain of 8 products, faster only on one row of 576 channels or more:
benchmarks/bench_ort_int8.py). That is another scheme and must be asked for, not slipped in: parts
whose inputs are quantised as well (`--quant w8a8`) keep their weights int8 and run int8 products.
Four-bit weights in blocks (`--quant w4a16`) stay so: int4_dialect.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgevlm.compiler.artifact_checks import check_ports, read_settings, unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Capabilities, NodeTime
from edgevlm.runtimes.onnx_files import OnnxFiles

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevlm.compiler.executor import Feeds

__all__ = ["OrtRuntime", "OrtSettings", "open_part"]

#: of int8 parts: it makes MatMul and Add a float Gemm before anything sees that the product is int8
HARMFUL = ["MatMulAddFusion"]
#: ONNX Runtime's name of a type -> ONNX's
DTYPES = {
    "tensor(float)": "FLOAT",
    "tensor(int64)": "INT64",
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
}


class OrtSettings(BaseModel):
    """`settings` of an artifact in the manifest, which may be hostile."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(0, ge=0, le=256, description="of one session; 0: all this process may use")
    int8: bool = Field(False, description="products of QuantizeLinear's outputs run as int8")


class OrtParts:
    """The sessions of a bundle, opened at once so that the first answer is not slower."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        self.sessions = {}
        for a in artifacts:
            path = folder / a.file
            session = open_part(path, a.settings)
            inputs, outputs = (
                list(map(_port, ports)) for ports in (session.get_inputs(), session.get_outputs())
            )
            check_ports(path, "input", inputs, contract.inputs(a.role))
            check_ports(path, "output", outputs, contract.outputs(a.role))
            self.sessions[a.role] = session
        self.names = {role: [o.name for o in s.get_outputs()] for role, s in self.sessions.items()}

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs of a part by name. Raises EV307 with ONNX Runtime's reason."""
        names = self.names[role]
        try:
            values = self.sessions[role].run(names, feeds)
        except Exception as error:
            raise JobFault(
                "EV307",
                f"artifact {role} failed while it ran",
                _reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error
        return dict(zip(names, values, strict=True))


class OrtRuntime(OnnxFiles):
    name = "ort"
    folds_weights = True
    architectures = ("x86_64", "aarch64", "arm64")
    carried = ("edgevlm.runtimes.ort.op_profile",)
    runs_with = ("numpy", "onnxruntime", "pillow", "pydantic", "tokenizers")

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.ort.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        try:
            return {name: version(name) for name in ("onnxruntime", "onnx")}
        except PackageNotFoundError as error:
            raise JobFault(
                "EV302",
                f"runtime ort lacks the package {error.name}",
                "it makes and runs the artifacts",
                f"pip install {error.name}",
            ) from error

    def written(self, part: ir.Model) -> tuple[ir.Model, dict[str, Any]]:
        from edgevlm.compiler.quantised import rounds_activations
        from edgevlm.runtimes.ort.int4_dialect import as_nbits
        from edgevlm.runtimes.ort.int8_dialect import as_uint8

        part = as_nbits(part)
        int8 = rounds_activations(part)
        return as_uint8(part) if int8 else part, {"int8": int8}

    def node_times(self, path: Path, settings: dict[str, Any], runs: int) -> list[NodeTime]:
        from edgevlm.runtimes.ort.op_profile import node_times

        return node_times(path, settings, runs)

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> OrtParts:
        """Raises EV304 (does not load, or has other ports), EV322 (settings)."""
        return OrtParts(folder, artifacts, contract)


def open_part(path: Path, settings: dict[str, Any], profile_to: str | None = None) -> Any:
    """A session with the settings of the manifest. Raises EV304 with ONNX Runtime's reason."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    asked = read_settings(OrtSettings, path, settings)
    options.intra_op_num_threads = asked.threads or len(os.sched_getaffinity(0))
    options.log_severity_level = 4  # what is wrong comes as an exception, told in our words
    # without QDQ handling, DequantizeLinear of a constant is folded like any other constant
    options.add_session_config_entry("session.disable_quant_qdq", str(int(not asked.int8)))
    # workers spin for tens of ms behind a run, on the cores that the next part needs
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_to
    try:
        return ort.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=HARMFUL if asked.int8 else None,
        )
    except Exception as error:
        raise unusable(path, _reason(error)) from error


def _port(value: Any) -> tuple[str, str, tuple[Any, ...]]:
    return value.name, DTYPES.get(value.type, value.type), tuple(value.shape)


def _reason(error: Exception) -> str:
    """The last sentence of ONNX Runtime's message, without the C++ signatures before it."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.rpartition("] : ")[2][-300:] if len(text) > 300 else text
