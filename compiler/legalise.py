"""Refuse, in our words and before the vendor's tool runs, what a runtime cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel

if TYPE_CHECKING:
    from edgevlm.runtimes.base import Capabilities

__all__ = ["legalise", "legalise_part", "refused"]

LIST_OPS = "edgevlm inspect MODEL --ops  lists the ops of every part"
#: ops whose outputs are as long as what they find, and what keeps a fixed number instead
FINDERS = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})

#: dtypes that few targets compute with -> what to ask for in their place
INSTEAD = {"FLOAT8E4M3FN": "edgevlm compile ... --quant w8a8  (8-bit integers in its place)"}


def legalise(model: ExportedModel, runtime: str, capabilities: Capabilities) -> ExportedModel:
    """Check opset, ops and dtypes of every part. Raises EV303 naming part, node and the limit."""
    for role, part in model.parts.items():
        legalise_part(role, part, runtime, capabilities)
    return model


def legalise_part(role: str, part: ir.Model, runtime: str, capabilities: Capabilities) -> None:
    """The same for one part."""
    opset = part.opset_imports.get("", 0)
    if opset > capabilities.opset:
        why = f"opset {opset}; {runtime} takes up to {capabilities.opset}"
        raise refused(role, "the graph", why)
    for node in ir.traversal.RecursiveGraphIterator(part.graph):
        if node.domain not in ("", "ai.onnx") or node.op_type not in capabilities.ops:
            why = f"op {node.domain or 'ai.onnx'}::{node.op_type} is not among those checked on "
            why += runtime
            if node.op_type in FINDERS:
                why = f"{node.op_type} gives as many rows as it finds; TopK and Gather keep a "
                why += "fixed number"
            raise refused(role, f"node {node.name}", why)
    for value in _values(part):
        if value.dtype is not None and value.dtype.name not in capabilities.dtypes:
            taken = ", ".join(sorted(capabilities.dtypes))
            why = f"dtype {value.dtype.name}; {runtime} takes {taken}"
            raise refused(role, f"value {value.name}", why, INSTEAD.get(value.dtype.name, LIST_OPS))


def _values(part: ir.Model) -> Iterator[ir.Value]:
    """Inputs, stored tensors and everything computed, bodies of nodes included."""
    for graph in part.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def refused(role: str, what: str, why: str, fix: str = LIST_OPS) -> JobFault:
    """`role`'s graph, node or value `what` is not for this target."""
    return JobFault("EV303", f"part {role}: {what} cannot be lowered", why, fix)
