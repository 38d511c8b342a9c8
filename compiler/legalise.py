"""Refuse, in our words and before the vendor's tool runs, what a runtime cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.palettes import find_palette

if TYPE_CHECKING:
    from edgevlm.compiler.recipe import Recipe
    from edgevlm.runtimes.base import Capabilities

__all__ = ["check_tables", "legalise", "legalise_part", "refused"]

LIST_OPS = "edgevlm inspect MODEL --ops  lists the ops of every part"
#: ops whose outputs are as long as what they find, and what keeps a fixed number instead
FINDERS = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})

#: where weights are no tables, and what takes as many bits there
NO_TABLES = "weights in lookup tables: Core ML and Core AI have them, and {} has no kernel for them"
OTHER_WEIGHTS = "edgevlm compile ... --quant w4a16 (integers of 4 bits), or --target iphone"

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
        if not capabilities.tables and find_palette(node):
            raise refused(role, f"node {node.name}", NO_TABLES.format(runtime), OTHER_WEIGHTS)
    for value in _values(part):
        if value.dtype is not None and value.dtype.name not in capabilities.dtypes:
            taken = ", ".join(sorted(capabilities.dtypes))
            why = f"dtype {value.dtype.name}; {runtime} takes {taken}"
            raise refused(role, f"value {value.name}", why, INSTEAD.get(value.dtype.name, LIST_OPS))


def check_tables(recipe: Recipe, runtime: str, capabilities: Capabilities) -> None:
    """The same of a recipe that will have tables, before it runs. Raises EV303."""
    if not capabilities.tables and any(s.name == "palettise-weights" for s in recipe.steps):
        what = f"pass palettise-weights cannot be lowered for {runtime}"
        raise JobFault("EV303", what, NO_TABLES.format(runtime), OTHER_WEIGHTS)


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
