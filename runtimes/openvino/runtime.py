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
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevlm.compiler.artifact_checks import check_ports
from edgevlm.compiler.contract import Contract, Port, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.manifest import Artifact
from edgevlm.runtimes.base import Capabilities, NodeTime
from edgevlm.runtimes.onnx_files import OnnxFiles
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part, reason
from edgevlm.runtimes.openvino.package import installed

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevlm.compiler.executor import Feeds

__all__ = ["OpenVinoRuntime"]

#: OpenVINO's name of a type -> ONNX's
DTYPES = {"f32": "FLOAT", "i64": "INT64", "i8": "INT8", "boolean": "BOOL"}


class OpenVinoParts:
    """The parts of a bundle, compiled at once so that the first answer is not slower."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        self.parts: dict[Role, OpenPart] = {}
        self.names: dict[Role, tuple[list[str], list[str]]] = {}
        for a in artifacts:
            path = folder / a.file
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


class OpenVinoRuntime(OnnxFiles):
    name = "openvino"
    extra = "openvino"
    architectures = ("x86_64",)
    carried = ("edgevlm.runtimes.openvino.op_profile",)
    runs_with = ("numpy", "openvino", "packaging", "pillow", "pydantic", "tokenizers")

    @property
    def capabilities(self) -> Capabilities:
        from edgevlm.runtimes.openvino.capabilities import CAPABILITIES

        return CAPABILITIES

    def toolchain(self) -> dict[str, str]:
        return {"openvino": installed(), "onnx": version("onnx")}

    def written(self, part: ir.Model) -> tuple[ir.Model, dict[str, Any]]:
        from edgevlm.compiler.attention import grouped_attention
        from edgevlm.compiler.whole_blocks import whole_blocks
        from edgevlm.compiler.widen import int4_as_int8
        from edgevlm.runtimes.openvino.dynamic import by_group

        part, group = by_group(whole_blocks(part))
        return int4_as_int8(grouped_attention(part)), {"group": group}

    def node_times(self, path: Path, settings: dict[str, Any], runs: int) -> list[NodeTime]:
        from edgevlm.runtimes.openvino.op_profile import node_times

        return node_times(path, settings, runs)

    def open_artifacts(
        self, folder: Path, artifacts: Sequence[Artifact], contract: Contract
    ) -> OpenVinoParts:
        """Raises EV302, EV304 (does not load, other ports), EV322 (settings)."""
        return OpenVinoParts(folder, artifacts, contract)


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
