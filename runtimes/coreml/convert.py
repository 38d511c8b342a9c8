"""All parts as one Core ML package: a function each, weights once, caches as states they share.

    part -> torch program -> ML program of iOS 18 (float16) -> model.mlpackage with five functions

Codes of weights arrive as codes, indices as indices (constexpr ops, which Core ML unpacks), inputs
that are rounded as `quantize` and `dequantize` with our scales. Angles of rotary positions stay
float32: float16 has steps of 1/16 from 64 on, and a cosine of that is another position's. Squares
of RMSNormalization stay inside a layer_norm: those of numbers above 256 are no float16. The bytes
are the same for the same model: coremltools writes the date and names drawn by chance, which go.
https://apple.github.io/coremltools/docs-guides/source/multifunction-models.html
"""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.ports import Port
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import state_ports
from edgevlm.compiler.to_torch.dialect import Dialect
from edgevlm.compiler.whole_blocks import whole_blocks
from edgevlm.runtimes.coreml.lowerings import register
from edgevlm.runtimes.coreml.package import coremltools

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["DIALECT", "PACKAGE", "convert"]

PACKAGE = "model.mlpackage"
DIALECT = Dialect(
    linear=True,
    quantised="decomposed",
    codes="all",
    tables="op",
    cache="mask",  # it has no converter for index_copy
    attention="plain",
    norms="layer",
    tanh_gelu="spelled",  # its converter passes `approximate` over
    index="natural",
    top_k="topk",
    fold=True,
)
#: what Core ML knows of integers
NUMPY = {"FLOAT": np.float16, "FLOAT16": np.float16, "INT64": np.int32, "INT32": np.int32}
DATE = "com.github.apple.coremltools.conversion_date"


def convert(model: ExportedModel, folder: Path, ios: int) -> None:
    """Writes `folder`/model.mlpackage. Raises EV212, EV303 (naming the part), EV309."""
    ct = coremltools()
    register()
    target = getattr(ct.target, f"iOS{ios}")
    with tempfile.TemporaryDirectory() as scratch, quietly():
        functions = ct.utils.MultiFunctionDescriptor()
        for role, part in model.parts.items():
            path = str(Path(scratch, f"{role}.mlpackage"))
            _converted(ct, role, part, model.contract, target).save(path)
            functions.add_function(path, "main", role)
        functions.default_function_name = next(iter(model.parts))
        ct.utils.save_multifunction(functions, str(folder / PACKAGE))
    _settle(ct, folder / PACKAGE)


def _converted(ct: Any, role: Role, part: ir.Model, contract: Contract, target: Any) -> Any:
    from edgevlm.compiler.to_torch.exported import exported_program

    program = exported_program(role, whole_blocks(part), contract, DIALECT).run_decompositions({})
    ins, outs = state_ports(contract, role)
    try:
        return ct.convert(
            program,
            inputs=[_type(ct, port, shaped=True) for port in ins],
            outputs=[_type(ct, port) for port in outs],
            minimum_deployment_target=target,
            compute_precision=ct.transform.FP16ComputePrecision(op_selector=_may_be_half),
            skip_model_load=True,
        )
    except Exception as error:  # its frontends raise a dozen kinds
        raise JobFault(
            "EV309",
            f"coremltools refuses part {role}",
            (str(error).strip().splitlines() or [type(error).__name__])[0][:300],
            "please report this with the recipe; edgevlm doctor --device iphone shows versions",
        ) from error


def _type(ct: Any, port: Port, shaped: bool = False) -> Any:
    shape = {"shape": port.shape} if shaped else {}
    return ct.TensorType(name=port.name, dtype=NUMPY[port.dtype], **shape)


def _may_be_half(op: Any) -> bool:
    """All but cosines and sines, and what is computed for them alone."""
    return not _of_angles(op, 4)


def _of_angles(op: Any, depth: int) -> bool:
    if op.op_type in ("cos", "sin"):
        return True
    children = [child for value in op.outputs for child in value.child_ops]
    return bool(children) and depth > 0 and all(_of_angles(c, depth - 1) for c in children)


def _settle(ct: Any, package: Path) -> None:
    """The same bytes whenever it is made."""
    manifest = json.loads((package / "Manifest.json").read_text())
    entries, names = manifest["itemInfoEntries"], {}
    for name, entry in entries.items():
        names[name] = str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
    manifest["itemInfoEntries"] = {names[n]: entry for n, entry in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    text = json.dumps(manifest, indent=4, sort_keys=True)
    (package / "Manifest.json").write_text(text + "\n")
    file = next((package / "Data").rglob("*.mlmodel"))
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    spec.description.metadata.userDefined.pop(DATE, None)
    file.write_bytes(spec.SerializeToString(deterministic=True))
