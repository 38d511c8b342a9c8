"""Which column of a linear layer each channel of a later value is, found by moving column numbers.

    x W + b -> Reshape -> Transpose -> Attention (as V) -> Transpose -> Reshape -> value [...,m]
    columns 0..n-1 travel the same way, and value's channel c is column columns[c]

A factor a column passes unharmed through whatever moves numbers about, through ReLU (factors are
positive), through a product with another value (a gate) and, for V, through attention, whose
output is a mean of V's rows. Several query heads may read one kv head: they then are one column.
Rows of a KV cache are columns as well: cached rows carry the factor in and out by their ports.
Anything else (GELU, a norm, a rotation, a sum) ends the way, and so does a second reader, but for
one that picks other columns: q, k and v may be made by one product.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

__all__ = ["MOVES", "Way", "trace", "trace_heads"]

MOVES = frozenset({"Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Gather", "Slice"})
PICKS = frozenset({"Gather", "Slice"})
VALUE = 2  # input of Attention
CACHE = re.compile(r"(past_)?value_\d+")  # ports that may hold other units (compiler/cache_units)


@dataclass(frozen=True)
class Way:
    """From a product with a constant matrix to a value that only one node reads at every step."""

    maker: ir.Node
    bias: tuple[ir.Node, int] | None  # Add and which of its inputs, right behind a MatMul
    columns: np.ndarray  # int [m], or [heads,width]
    ports: dict[str, np.ndarray] = field(default_factory=dict)  # caches -> columns [heads,width]
    ops: frozenset[str] = frozenset()  # what lies between


def trace(value: ir.Value) -> Way | None:
    """Back from a value to the linear layer that makes its channels; None where there is none."""
    return _followed(value, _rows_alike)


def trace_heads(value: ir.Value) -> Way | None:
    """The same of an input of Attention [1,heads,rows,width]: columns are [heads,width]."""
    return _followed(value, _heads)


def _followed(value: ir.Value, told: Callable[[np.ndarray], np.ndarray | None]) -> Way | None:
    steps = _back(value)
    if steps is None:
        return None
    maker, bias = steps[0][0], None
    ids = _numbered(maker)
    ports: dict[str, np.ndarray] = {}
    for node, position in steps[1:]:
        if node.op_type == "Add":
            bias = node, 1 - position
        else:
            before, ids = ids, _moved(node, position, ids, ports)
            if ids is not None and not _apart(node, position, before, ids):
                return None
        if ids is None or not _note_port(node.outputs[0], ids, ports):
            return None
    columns = told(ids)
    ops = frozenset(node.op_type for node, _ in steps[1:])
    return None if columns is None else Way(maker, bias, columns, ports, ops)


def _back(value: ir.Value) -> list[tuple[ir.Node, int]] | None:
    """(node, input the channels come in by), maker first."""
    node = value.producer()
    if node is None or value.shape is None:
        return None
    if node.op_type in ("MatMul", "Gemm"):
        return [(node, 0)] if _linear(node) else None
    found = []
    for position in _carriers(node):
        before = node.inputs[position]
        if _read_once(before, node):
            way = _back(before)
            if way is not None and (node.op_type != "Add" or way[-1][0].op_type == "MatMul"):
                found.append([*way, (node, position)])
    return min(found, key=len, default=None)


def _linear(node: ir.Node) -> bool:
    """Whether the columns of its matrix, and its bias, can be scaled one by one."""
    known = all(_constant(v) for v in node.inputs[1:] if v is not None)
    if not known or len(node.inputs[1].shape) != 2 or node.attributes.get_int("transA", 0):
        return False
    biases = [v for v in node.inputs[2:] if v is not None]
    return all(len(v.shape) and v.shape[-1] == node.outputs[0].shape[-1] for v in biases)


def _carriers(node: ir.Node) -> list[int]:
    """Inputs by which channels may come in."""
    inputs = node.inputs
    if node.op_type in MOVES or node.op_type == "Relu":
        return [0]
    if node.op_type == "Attention":
        past = any(v is not None for v in inputs[4:6])
        more = any(v.uses() or v.is_graph_output() for v in node.outputs[1:3])
        return [] if past or more else [VALUE]
    if node.op_type == "Concat":  # rows of a cache in front of new ones
        cached = [v.is_graph_input() and len(v.uses()) == 1 for v in inputs]
        named = all(CACHE.fullmatch(str(v.name)) for v, c in zip(inputs, cached, strict=True) if c)
        return [cached.index(False)] if named and cached.count(False) == 1 else []
    if node.op_type == "Mul":
        whole = node.outputs[0].shape
        return [i for i in (0, 1) if not _constant(inputs[i]) and inputs[i].shape == whole]
    if node.op_type == "Add":
        whole = node.outputs[0].shape
        return [i for i in (0, 1) if _vector(inputs[1 - i], whole) and inputs[i].shape == whole]
    return []


def _read_once(value: ir.Value, node: ir.Node) -> bool:
    """By `node` alone, or by nodes that each pick a piece; a cache may go out as well."""
    free = not value.is_graph_output() or CACHE.fullmatch(str(value.name))
    users = [user for user, _ in value.uses()]
    return bool(free) and (users == [node] or all(user.op_type in PICKS for user in users))


def _apart(node: ir.Node, position: int, before: np.ndarray, mine: np.ndarray) -> bool:
    """Whether what others pick of a value has none of these columns: q, k and v of one product."""
    others = [user for user, _ in node.inputs[position].uses() if user is not node]
    picked = [_chosen(other, before) for other in others]
    return all(ids is not None and not np.isin(ids, mine).any() for ids in picked)


def _numbered(maker: ir.Node) -> np.ndarray:
    shape = [int(d) for d in maker.outputs[0].shape]
    return np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)


def _moved(
    node: ir.Node, position: int, ids: np.ndarray, ports: dict[str, np.ndarray]
) -> np.ndarray | None:
    """Columns of a node's output; None where rows come to differ."""
    shape = [int(d) for d in node.outputs[0].shape]
    match node.op_type:
        case "Reshape" | "Squeeze" | "Unsqueeze":
            return ids.reshape(shape)
        case "Transpose":
            return ids.transpose(node.attributes.get_ints("perm", range(ids.ndim)[::-1]))
        case "Gather" | "Slice" | "Concat":
            chosen = _chosen(node, ids)
            return _picked(node, position, ids, shape, ports) if chosen is None else chosen
        case "Attention":
            return _attended(node, ids, shape)
    return ids


def _chosen(node: ir.Node, ids: np.ndarray) -> np.ndarray | None:
    """What constant indices pick; None where they are computed."""
    given = [v for v in node.inputs[1:] if v is not None]
    if node.op_type not in PICKS or any(v.const_value is None for v in given):
        return None
    if node.op_type == "Gather":
        return np.take(ids, given[0].const_value.numpy(), node.attributes.get_int("axis", 0))
    parts = [v if v is None else v.const_value.numpy() for v in node.inputs[1:]]
    starts, ends, axes, steps = (*parts, *[None] * (4 - len(parts)))
    count, cut = len(starts), [slice(None)] * ids.ndim
    axes, steps = range(count) if axes is None else axes, [1] * count if steps is None else steps
    for axis, *piece in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(*map(int, piece))
    return ids[tuple(cut)]


def _picked(
    node: ir.Node, position: int, ids: np.ndarray, shape: list[int], ports: dict[str, np.ndarray]
) -> np.ndarray | None:
    """Whichever rows are picked, and however many: they are alike, or the way ends."""
    if len(shape) != ids.ndim or node.op_type == "Slice":
        return None
    alike = _alike(ids, node.attributes.get_int("axis", 0) % ids.ndim)
    if alike is None:
        return None
    ids = np.broadcast_to(alike, shape)
    for i, other in enumerate(node.inputs):
        if node.op_type == "Concat" and i != position:
            mine = _heads(ids)
            if mine is None:
                return None
            ports[str(other.name)] = mine
    return ids


def _attended(node: ir.Node, ids: np.ndarray, shape: list[int]) -> np.ndarray | None:
    """Query head h reads kv head h // (heads / kv heads)."""
    if ids.ndim == 3:
        heads = node.attributes.get_int("kv_num_heads", 0)
        if not heads:
            return None
        ids = ids.reshape(ids.shape[0], ids.shape[1], heads, -1).transpose(0, 2, 1, 3)
    mine = _heads(ids)
    if mine is None:
        return None
    wide = shape[-1] // mine.shape[1] if len(shape) == 3 else shape[1]
    mine = np.repeat(mine, wide // len(mine), axis=0)
    if len(shape) == 3:
        return np.broadcast_to(mine.reshape(1, 1, -1), shape)
    return np.broadcast_to(mine[None, :, None], shape)


def _note_port(value: ir.Value, ids: np.ndarray, ports: dict[str, np.ndarray]) -> bool:
    """False for a value that goes out in a form no cache has."""
    if not value.is_graph_output():
        return True
    mine = _heads(ids)
    if mine is not None:
        ports[str(value.name)] = mine
    return mine is not None


def _heads(ids: np.ndarray) -> np.ndarray | None:
    """[heads,width] of [1,heads,rows,width] where rows are alike."""
    alike = _alike(ids, 2) if ids.ndim == 4 and ids.shape[0] == 1 else None
    return None if alike is None else alike[0, :, 0]


def _rows_alike(ids: np.ndarray) -> np.ndarray | None:
    rows = ids.reshape(-1, ids.shape[-1])
    return np.array(rows[0]) if (rows == rows[0]).all() else None


def _alike(ids: np.ndarray, axis: int) -> np.ndarray | None:
    first = ids.take([0], axis)
    return first if (ids == first).all() else None


def _constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.dtype == ir.DataType.FLOAT


def _vector(value: ir.Value | None, whole: ir.Shape) -> bool:
    return _constant(value) and len(value.shape) == 1 and value.shape[0] == whole[-1]
