"""Bring a graph to the opset of all parts, with the converters of onnx and onnxscript.

That they keep the function is not taken on trust: frontend.py runs both sides.
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.models.onnx import OPSET

__all__ = ["to_opset"]

#: of the files that torch's exporter writes at this opset
IR_VERSION = 10


def to_opset(path: Path, model: ir.Model) -> None:
    """In place; constants that the converter writes become initializers. Raises EV142."""
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    from onnxscript.version_converter import convert_version

    before, level = model.opset_imports[""], logging.root.manager.disable
    logging.disable(logging.WARNING)  # it narrates which of the two converters it takes
    try:
        convert_version(model, OPSET, fallback=True)
    except Exception as error:  # each adapter raises its own kind
        raise _refused(path, before, f"{type(error).__name__}: {error}") from error
    finally:
        logging.disable(level)
    if model.opset_imports[""] != OPSET:
        raise _refused(path, before, "the converter of onnx does not know one of its ops")
    model.ir_version = IR_VERSION
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)


def _refused(path: Path, before: int, why: str) -> JobFault:
    return JobFault(
        "EV142",
        f"{path.name} cannot be brought from opset {before} to {OPSET}",
        why[:300],
        f"export the model again with opset_version={OPSET}",
    )
