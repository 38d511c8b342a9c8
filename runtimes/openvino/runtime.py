"""OpenVINO on the host CPU: one ONNX file a part, weights in one file, no zero point anywhere.

For x86, where it runs symmetric int8 as it is: inputs of products that were quantised
(`--quant w8a8`) and their int8 weights go into int8 kernels without being written as uint8 first.
Weights alone (`--quant w8`, `w4a16`) stay integers in memory and are made float in each product.

The artifacts are the compiler's own graphs, but for attention, which is written out, for 4-bit
weights of one scale a channel, which as they stand would multiply in float (compiler/widen.py),
and for scales of run time (dynamic.py). OpenVINO's own format is not used: it would have to be
checked before it is read, and does not come out the same twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.compiler.artifact_checks import check_ports
from edgevlm.compiler.attention import grouped_attention
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.contract import Contract, Port, Role
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.legalise import legalise
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph
from edgevlm.compiler.widen import int4_as_int8
from edgevlm.runtimes.base import OpTime, Runtime
from edgevlm.runtimes.openvino.capabilities import CAPABILITIES
from edgevlm.runtimes.openvino.dynamic import by_group
from edgevlm.runtimes.openvino.open_part import OpenPart, OpenVinoSettings, compile_part, reason
from edgevlm.runtimes.openvino.package import installed

__all__ = ["OpenVinoRuntime"]

#: multiply-accumulates of one run from which a second thread pays, as in ONNX Runtime
SHARED_MACS = 100_000_000
#: OpenVINO's name of a type -> ONNX's
DTYPES = {"f32": "FLOAT", "i64": "INT64", "i8": "INT8", "boolean": "BOOL"}


class OpenVinoParts:
    """The parts of a bundle, compiled at once so that the first answer is not slower."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        self.parts: dict[Role, OpenPart] = {}
        self.names: dict[Role, tuple[list[str], list[str]]] = {}
        for a in artifacts:
            path = folder / a.file
            load_graph(path)  # says what is missing, truncated or points elsewhere
            compiled = compile_part(path, a.settings)
            inputs, outputs = contract.inputs(a.role), contract.outputs(a.role)
            check_ports(path, "input", _ports(compiled.inputs, inputs), inputs)
            check_ports(path, "output", _ports(compiled.outputs, outputs), outputs)
            self.parts[a.role] = OpenPart(compiled)
            self.names[a.role] = [p.name for p in inputs], [p.name for p in outputs]

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs of a part by name. Raises EV307 with OpenVINO's reason."""
        inputs, outputs = self.names[role]
        try:
            if feeds.keys() != set(inputs):
                raise ValueError(f"inputs are {sorted(feeds)}, the part takes {sorted(inputs)}")
            values = self.parts[role].run([feeds[name] for name in inputs])
        except Exception as error:
            raise JobFault(
                "EV307",
                f"artifact {role} failed while it ran",
                reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error
        return dict(zip(outputs, values, strict=True))


class OpenVinoRuntime(Runtime):
    name = "openvino"
    extra = "openvino"
    capabilities = CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        return {"openvino": installed(), "onnx": version("onnx")}

    def lower(self, model: ExportedModel, folder: Path) -> list[Artifact]:
        legalise(model, self.name, self.capabilities)
        home = folder / self.name
        home.mkdir()
        artifacts = []
        with WeightWriter(home) as writer:
            for role, part in model.parts.items():
                written, group = by_group(part)
                written = int4_as_int8(grouped_attention(written))
                save_graph(written, home / f"{role}.onnx", writer)
                shared = count(part).macs >= SHARED_MACS
                threads = 0 if shared else 1
                settings = OpenVinoSettings(threads=threads, group=group).model_dump()
                artifacts.append(
                    Artifact(role=role, file=f"{self.name}/{role}.onnx", settings=settings)
                )
        return artifacts

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> OpenVinoParts:
        """Raises EV101 (weights), EV302, EV304 (does not load, other ports), EV322 (settings)."""
        return OpenVinoParts(folder, artifacts, contract)

    def profile_ops(self, bundle: Bundle, runs: int = 20) -> list[OpTime]:
        from edgevlm.runtimes.openvino.op_profile import profile_part

        return [
            row
            for a in bundle.manifest.artifacts
            for row in profile_part(bundle.folder / a.file, a.role, a.settings, runs)
        ]

    def time_nodes(
        self, folder: Path, artifacts: Sequence[Artifact], runs: int
    ) -> dict[str, float]:
        from edgevlm.runtimes.openvino.op_profile import node_times

        return {
            f"{a.role}/{node}": ms
            for a in artifacts
            for _, node, ms in node_times(folder / a.file, a.settings, runs)
        }


def _ports(found: Sequence[Any], wanted: Sequence[Port]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """(name, type, shape); a value may go by several names, then the contract's is taken."""
    ports = []
    for port in found:
        names = port.get_names()
        name = next((p.name for p in wanted if p.name in names), " or ".join(sorted(names)))
        kind = port.get_element_type().get_type_name()
        shape = port.get_partial_shape()
        sizes = tuple(shape.to_shape()) if shape.is_static else (str(shape),)
        ports.append((name, DTYPES.get(kind, kind), sizes))
    return ports
