"""Which nodes of a part stay float32, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.watch import watch

__all__ = ["Why", "stay_float"]

LARGEST = 65504.0  # of float16
#: of a constant: rounding to 11 bits is at most 2^-12; more means that its range is too small
ROUNDS_BY = 2.0**-8
NUMBERS = {
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.INT8,
    ir.DataType.INT16,
    ir.DataType.INT4,
    ir.DataType.FLOAT8E4M3FN,
}


class Why(enum.Enum):
    """The first of these that holds is the one that is told."""

    OP = "the op takes no float16"
    ANGLE = "an angle: of a large one float16 has not the place on the circle"
    DECIDING = "it decides what is chosen, and nothing else"
    CONSTANT = "a constant that float16 has not"
    LARGE = "numbers near the end of float16 were seen"


def stay_float(part: ir.Model, feeds: Sequence[Feeds], headroom: float) -> dict[ir.Node, Why]:
    """feeds: calibration inputs of this part; with none of them nothing counts as large."""
    carried, angles = _carried(part.graph), _angles(part.graph)
    found: dict[ir.Node, Why] = {}
    for node in part.graph:
        if not any(v.dtype == ir.DataType.FLOAT for v in _values(node)):
            continue
        if not _takes_half(node):
            found[node] = Why.OP
        elif node in angles:
            found[node] = Why.ANGLE
        elif not any(v in carried for v in node.outputs):
            found[node] = Why.DECIDING
        elif any(_is_lost(v) for v in node.inputs):
            found[node] = Why.CONSTANT
    large = _seen_above(part, feeds, LARGEST / headroom)
    for node in part.graph:
        if node not in found and any(v in large for v in _values(node)):
            found[node] = Why.LARGE
    return found


def _carried(graph: ir.Graph) -> set[ir.Value]:
    """Numbers that reach an output as numbers."""
    found = {v for v in graph.outputs if v.dtype in NUMBERS}
    for node in reversed(list(graph)):
        if any(v in found for v in node.outputs):
            found |= {v for v in node.inputs if v is not None and v.dtype in NUMBERS}
    return found


def _angles(graph: ir.Graph) -> set[ir.Node]:
    """Sines and cosines, and all that their angles are made of."""
    found = {node for node in graph if node.op_type in ("Sin", "Cos")}
    for node in reversed(list(graph)):
        if any(user in found for value in node.outputs for user, _ in value.uses()):
            found.add(node)
    return found


def _takes_half(node: ir.Node) -> bool:
    """Whether the op's definition lets its float outputs be float16."""
    if node.attributes and any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return False
    schema = onnx.defs.get_schema(node.op_type, 23, "")
    allowed = {t.type_param_str: t.allowed_type_strs for t in schema.type_constraints}
    for i, value in enumerate(node.outputs):
        formal = schema.outputs[min(i, len(schema.outputs) - 1)]
        if value.dtype == ir.DataType.FLOAT and "tensor(float16)" not in allowed.get(
            formal.type_str, ()
        ):
            return False
    return True


def _is_lost(value: ir.Value | None) -> bool:
    """Whether a small constant is another number in float16; of weights, small ones may be 0."""
    if value is None or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return False
    if len(value.shape) > 1 and value.const_value.size > 1 and not _is_scale(value):
        return bool(np.abs(value.const_value.numpy()).max(initial=0) > LARGEST)
    array = value.const_value.numpy()
    with np.errstate(over="ignore"):
        moved = np.abs(array.astype(np.float16).astype(np.float32) - array)
    if _is_scale(value) or array.size == 1:
        return bool((moved > ROUNDS_BY * np.abs(array)).any())
    return bool(np.abs(array).max(initial=0) > LARGEST)


def _is_scale(value: ir.Value) -> bool:
    return any(
        node.op_type in ("QuantizeLinear", "DequantizeLinear") and at == 1
        for node, at in value.uses()
    )


def _seen_above(part: ir.Model, feeds: Sequence[Feeds], limit: float) -> set[ir.Value]:
    inner = [v for node in part.graph for v in node.outputs]
    values = [v for v in (*part.graph.inputs, *inner) if v.dtype == ir.DataType.FLOAT]
    scores, found = _scores(part.graph), set()

    def see(value: ir.Value, array: np.ndarray, _: int) -> None:
        size = array if value in scores else np.abs(array)
        if not size.max(initial=0) <= limit:  # also what is not a number
            found.add(value)

    if feeds:
        watch(part, values, feeds, see)
    return found


def _scores(graph: ir.Graph) -> set[ir.Value]:
    """What a softmax reads, and the terms of it: how far below the rest one is does not matter."""
    found: set[ir.Value] = set()
    for node in reversed(list(graph)):
        if node.op_type == "Softmax" or (node.op_type == "Add" and node.outputs[0] in found):
            found |= {v for v in node.inputs if all(_adds_up(*use) for use in v.uses())}
    return found


def _adds_up(node: ir.Node, _: int) -> bool:
    return node.op_type in ("Add", "Softmax")


def _values(node: ir.Node) -> Iterator[ir.Value]:
    yield from (v for v in node.inputs if v is not None)
    yield from node.outputs
