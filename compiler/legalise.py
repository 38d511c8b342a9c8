"""Refuse, in our words and before the vendor's tool runs, what a runtime cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel

if TYPE_CHECKING:
    from edgevlm.runtimes.base import Capabilities

__all__ = ["legalise"]

LISTED = "edgevlm inspect MODEL --ops  lists the ops of every part"
#: dtypes that few targets compute with -> what to ask for in their place
INSTEAD = {"FLOAT8E4M3FN": "edgevlm compile ... --quant w8a8  (8-bit integers in its place)"}


def legalise(model: ExportedModel, runtime: str, capabilities: Capabilities) -> ExportedModel:
    """Check opset, ops and dtypes of every part. Raises EV303 naming part, node and the limit."""
    for role, part in model.parts.items():
        opset = part.opset_imports.get("", 0)
        if opset > capabilities.opset:
            _refuse(role, "the graph", f"opset {opset}; {runtime} takes up to {capabilities.opset}")
        for node in ir.traversal.RecursiveGraphIterator(part.graph):
            if node.domain not in ("", "ai.onnx") or node.op_type not in capabilities.ops:
                _refuse(
                    role,
                    f"node {node.name}",
                    f"op {node.domain or 'ai.onnx'}::{node.op_type} is "
                    f"not among those checked on {runtime}",
                )
        for value in _values(part):
            if value.dtype is not None and value.dtype.name not in capabilities.dtypes:
                _refuse(
                    role,
                    f"value {value.name}",
                    f"dtype {value.dtype.name}; {runtime} takes "
                    f"{', '.join(sorted(capabilities.dtypes))}",
                    INSTEAD.get(value.dtype.name, LISTED),
                )
    return model


def _values(part: ir.Model) -> Iterator[ir.Value]:
    """Inputs, stored tensors and everything computed, bodies of nodes included."""
    for graph in part.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _refuse(role: str, what: str, why: str, instead: str = LISTED) -> None:
    raise JobFault(
        "EV303",
        f"part {role}: {what} cannot be lowered",
        why,
        instead,
    )
