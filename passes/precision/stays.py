"""Which nodes of a part stay float32, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence, Set

import numpy as np
import onnx
import onnx_ir as ir

from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.watch import watch

__all__ = ["Why", "seen_above", "stay_float"]

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


def stay_float(part: ir.Model, large: Set[ir.Value] = frozenset()) -> dict[ir.Node, Why]:
    """large: what was `seen_above` on calibration inputs."""
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
        elif _fills_lost(node) or any(_is_lost(v) or _has_lost_step(v) for v in node.inputs):
            found[node] = Why.CONSTANT
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
    try:
        schema = onnx.defs.get_schema(node.op_type, 23, node.domain)
    except onnx.defs.SchemaError:  # whoever lowers it says so
        return False
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
    if _is_scale(value) or array.size == 1:
        return _moves(array)
    return bool(np.abs(array).max(initial=0) > LARGEST)


def _moves(array: np.ndarray) -> bool:
    array = array[np.isfinite(array)]  # float16 has the others
    with np.errstate(over="ignore"):
        moved = np.abs(array.astype(np.float16).astype(np.float32) - array)
    return bool((moved > ROUNDS_BY * np.abs(array)).any())


def _fills_lost(node: ir.Node) -> bool:
    filled = node.attributes.get("value")
    if node.op_type != "ConstantOfShape" or filled is None:
        return False
    return _moves(filled.value.numpy().astype(np.float32))


def _has_lost_step(value: ir.Value | None) -> bool:
    """Codes times a scale that float16 has not: such numbers it has not either."""
    maker = None if value is None else value.producer()
    return maker is not None and maker.op_type == "DequantizeLinear" and _is_lost(maker.inputs[1])


def _is_scale(value: ir.Value) -> bool:
    return any(
        node.op_type in ("QuantizeLinear", "DequantizeLinear") and at == 1
        for node, at in value.uses()
    )


def seen_above(part: ir.Model, feeds: Sequence[Feeds], headroom: float) -> set[ir.Value]:
    """Inputs and inner values that came near the end of float16; feeds: calibration inputs."""
    inner = [v for node in part.graph for v in node.outputs]
    values = [v for v in (*part.graph.inputs, *inner) if v.dtype == ir.DataType.FLOAT]
    scores, found, limit = _scores(values), set(), LARGEST / headroom

    def see(value: ir.Value, array: np.ndarray, _: int) -> None:
        fits = _is_score_in_half if value in scores else _is_in_half
        if not fits(array, limit):
            found.add(value)

    if feeds:
        watch(part, values, feeds, see)
    return found


def _is_in_half(array: np.ndarray, limit: float) -> bool:
    return bool(np.abs(array).max(initial=0) <= limit)  # False of what is not a number


def _is_score_in_half(array: np.ndarray, limit: float) -> bool:
    """Far below the rest of its row one may be anything; all of a row as low are no row at all."""
    tops = array.max(axis=-1) if array.ndim and array.size else np.zeros(1)
    return bool((tops >= -LARGEST).all() and (tops <= limit).all())


def _scores(values: Sequence[ir.Value]) -> set[ir.Value]:
    """What a softmax over rows reads, and the terms of it. values: in the order of the graph."""
    found: set[ir.Value] = set()
    for value in reversed(values):
        users = [user for user, _ in value.uses()]
        if users and not value.is_graph_output() and all(_adds_up(u, found) for u in users):
            found.add(value)
    return found


def _adds_up(node: ir.Node, scores: set[ir.Value]) -> bool:
    if node.op_type == "Softmax":
        rank = len(node.inputs[0].shape)
        return node.attributes.get_int("axis", -1) % rank == rank - 1
    return node.op_type == "Add" and node.outputs[0] in scores


def _values(node: ir.Node) -> Iterator[ir.Value]:
    yield from (v for v in node.inputs if v is not None)
    yield from node.outputs
