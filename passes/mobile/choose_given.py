"""Choosing by places that are given: Gather, Scatter and OneHot as one-hot products."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.axes.rules.elementwise import BROADCAST, UNARY
from edgevlm.passes.mobile.choosing import Limits, Refused, check, cut, sizes, take_over
from edgevlm.passes.mobile.hot import Hot

__all__ = [
    "gather",
    "gather_elements",
    "gather_nd",
    "one_hot",
    "scatter_elements",
    "scatter_nd",
]


def gather(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """Rows at any axis; a Slice where places are known and lie evenly."""
    data, index = node.inputs
    axis = attribute(node, "axis", 0) % len(data.shape)
    run = _run(index, int(data.shape[axis])) if index.const_value is not None else None
    if run is not None:
        take_over(hot, node.outputs[0], cut(hot, data, axis, *run))
        return 1
    check(hot, data, int(data.shape[axis]), limits)
    flat = hot.shaped(index, [math.prod(sizes(index))])
    hot.bounds.learn(flat, index)
    take_over(hot, node.outputs[0], _picked(hot, data, flat, axis))
    return int(data.shape[axis])


def _picked(hot: Hot, data: ir.Value, index: ir.Value, axis: int) -> ir.Value:
    """Places [K] of an axis."""
    shape, kind = sizes(data), hot.kind_for(data)
    count = shape[axis]
    if axis == len(shape) - 1:
        wide = hot.shaped(data, [1, count]) if len(shape) == 1 else data
        return hot.product(hot.matrix(index, count, kind, turned=True), wide, "right")
    if axis != len(shape) - 2:
        data = hot.shaped(data, [math.prod(shape[:axis]), count, math.prod(shape[axis + 1 :])])
    places = hot.shaped(index, [*[1] * (len(data.shape) - 2), *sizes(index)])
    hot.bounds.learn(places, index)
    return hot.product(hot.matrix(places, count, kind), data)


def gather_elements(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """The same places for all that lies behind the axis; they may differ in front of it."""
    data, index = node.inputs
    axis = attribute(node, "axis", 0) % len(data.shape)
    check(hot, data, int(data.shape[axis]), limits)
    shape, places = sizes(data), _lead(hot, index, axis)
    if shape[:axis] + shape[axis + 1 :] != sizes(index)[:axis] + sizes(index)[axis + 1 :]:
        raise Refused("its places and what is gathered differ in size beside the axis")
    rows = hot.shaped(data, [*shape[: axis + 1], math.prod(shape[axis + 1 :])])
    matrix = hot.matrix(places, shape[axis], hot.kind_for(data))
    take_over(hot, node.outputs[0], hot.product(matrix, rows))
    return shape[axis]


def gather_nd(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """Rows of the first axis that is longer than 1, where the others have one place."""
    data, index = node.inputs
    if attribute(node, "batch_dims", 0):
        raise Refused("it looks up several axes at once")
    shape, (axis, flat) = sizes(data), _column(hot, data, index)
    check(hot, data, shape[axis], limits)
    depth = int(index.shape[-1])
    rows = hot.shaped(data, [shape[axis], math.prod(shape[depth:])])
    take_over(hot, node.outputs[0], _picked(hot, rows, flat, 0))
    return shape[axis]


def scatter_elements(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """data (1 - hit) + P' updates; places are unique, as ONNX asks where nothing is reduced."""
    data, index, _ = node.inputs
    axis, shape, wide = attribute(node, "axis", 0) % len(data.shape), sizes(data), sizes(index)
    if shape[:axis] + shape[axis + 1 :] != wide[:axis] + wide[axis + 1 :]:
        raise Refused("its places and what is written differ in size beside the axis")
    places = _lead(hot, index, axis)
    return _scattered(hot, node, limits, places, shape[: axis + 1], math.prod(shape[axis + 1 :]))


def scatter_nd(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """The same with rows of the first axis that is longer than 1."""
    data, index, _ = node.inputs
    shape, depth, (axis, flat) = sizes(data), int(index.shape[-1]), _column(hot, data, index)
    return _scattered(hot, node, limits, flat, [shape[axis]], math.prod(shape[depth:]))


def _scattered(
    hot: Hot, node: ir.Node, limits: Limits, places: ir.Value, lead: list[int], rest: int
) -> int:
    data, _, updates = node.inputs
    reduction, count = attribute(node, "reduction", "none"), lead[-1]
    if reduction not in ("none", "add"):
        raise Refused(f"it reduces by {reduction}")
    for value in (data, updates):
        check(hot, value, count, limits)
    build, kind = hot.build, hot.kind_for(data)
    turned = hot.matrix(places, count, kind, turned=True)  # [...,N,K]
    new = hot.shaped(updates, [*lead[:-1], int(places.shape[-1]), rest])
    put = hot.product(turned, hot.cast(new, kind))
    old = hot.cast(hot.shaped(data, [*lead, rest]), kind)
    if reduction == "none":
        ones = build.const(np.ones((int(places.shape[-1]), 1)), kind.numpy())
        hit = hot.product(turned, ones)
        free = build("Sub", build.const(1, kind.numpy()), hit)
        free.shape, free.dtype = hit.shape, kind
        old = build("Mul", old, free)
    made = build("Add", old, put)
    made.shape, made.dtype = ir.Shape([*lead, rest]), kind
    take_over(hot, node.outputs[0], hot.cast(made, data.dtype))
    return count


def one_hot(hot: Hot, node: ir.Node, _: Limits) -> int:
    """A comparison, and what it stands for."""
    index, depth, values = node.inputs
    if depth.const_value is None or values.const_value is None:
        raise Refused("its depth or values are computed")
    if index.dtype.is_floating_point():
        raise Refused("its places are floats")
    count, (off, on) = int(depth.const_value.numpy().reshape(())), values.const_value.numpy()
    rank = len(index.shape)
    axis = attribute(node, "axis", -1) % (rank + 1)
    if axis not in (rank, rank - 1):
        raise Refused("its new axis is in front of more than one of its places")
    if index.dtype != ir.DataType.INT64:  # a narrow one does not count as far
        wide = hot.cast(index, ir.DataType.INT64)
        hot.bounds.learn(wide, index)
        index = wide
    plain = (off, on) == (0, 1)
    made = hot.matrix(index, count, values.dtype if plain else ir.DataType.BOOL, axis != rank)
    if not plain:
        ends = (hot.build.const(number, values.dtype.numpy()) for number in (on, off))
        shape, made = made.shape, hot.build("Where", made, *ends)
        made.shape, made.dtype = shape, values.dtype
    take_over(hot, node.outputs[0], made)
    return count


def _column(hot: Hot, data: ir.Value, index: ir.Value) -> tuple[int, ir.Value]:
    """(axis, places [K]) of an index [...,depth] of which one column varies. Raises Refused."""
    shape, (*lead, depth) = sizes(data), sizes(index)
    longer = [i for i in range(depth) if shape[i] > 1]
    if len(longer) > 1:
        raise Refused("it looks up several axes at once")
    axis, column = longer[0] if longer else 0, index
    if depth > 1:
        column = cut(hot, index, len(lead), axis, 1, 1)
        hot.bounds.learn(column, index)
    flat = hot.shaped(column, [math.prod(lead)])
    hot.bounds.learn(flat, column)
    return axis, flat


def _run(index: ir.Value, count: int) -> tuple[int, int, int] | None:
    """(first, how many, step) of places that lie evenly; None for others."""
    places = index.const_value.numpy()
    if places.ndim > 1 or not places.size:
        return None
    places = np.where(places < 0, places + count, places).reshape(-1)
    steps = set(np.diff(places).tolist()) or {1}
    step = steps.pop()
    return (int(places[0]), len(places), step) if not steps and step > 0 else None


def _lead(hot: Hot, index: ir.Value, axis: int) -> ir.Value:
    """Places [...,K] of places [...,K,rest] that are the same along the rest. Raises Refused."""
    shape, alike = sizes(index), _alike(index)
    behind = range(axis + 1, len(shape))
    if not all(alike[i] for i in behind):
        raise Refused("its places differ along what is gathered")
    few = index
    for i in behind:
        if shape[i] > 1:
            few = cut(hot, few, i, 0, 1, 1)
            hot.bounds.learn(few, index)
    places = hot.shaped(few, shape[: axis + 1])
    hot.bounds.learn(places, index)
    return places


def _alike(value: ir.Value) -> list[bool]:
    """Of each axis whether all places along it hold the same."""
    shape = sizes(value)
    one = [size == 1 for size in shape]
    if value.const_value is not None:
        array = value.const_value.numpy()
        return [bool((array == array.take([0], i)).all()) for i in range(array.ndim)]
    node = value.producer()
    if node is None:
        return one
    if node.op_type == "Expand" or node.op_type in BROADCAST or node.op_type in UNARY:
        given = node.inputs[:1] if node.op_type not in BROADCAST else node.inputs
        wide = [[True] * (len(shape) - len(v.shape)) + _alike(v) for v in given]
        return [a or all(rows) for a, rows in zip(one, zip(*wide, strict=True), strict=True)]
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", range(len(shape))[::-1])
        before = _alike(node.inputs[0])
        return [before[i] for i in perm]
    return one
