"""Ops that pick or write elements by index.

An index that depends on a graph input is the graph's own business. One that is known when compiling
counts elements of an axis, so that axis must keep its size, unless the index is stored as a plain
run (then what it picks is a section, and the run is counted anew).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fresh_term, label, pin, size_of
from edgevlm.compiler.axes.equations import section, unify
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    is_constant,
    is_stored,
    normal_axis,
    who,
)

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def gather(found: Analysis, node: ir.Node) -> list[Dims]:
    """A stored run of indices is a section (a class token stays where it is); others are new."""
    x, name = found.input(node, 0), who(node)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    lead, tail = x[:axis], x[axis + 1 :]
    if not is_constant(node.inputs[1]):
        if is_stored(node.inputs[1]):
            pin(x[axis], name, "it picks stored positions of it")
        elif is_stored(node.inputs[0]):
            label(x[axis], "class")  # rows of an embedding table
        return [[*lead, *found.input(node, 1), *tail]]
    picked = constant(node, 1)
    flat = np.where(picked < 0, picked + size_of(x[axis]), picked).reshape(-1)
    one_axis = sum(size != 1 for size in picked.shape) <= 1
    if not (one_axis and np.array_equal(flat, np.arange(len(flat)) + flat[0])):
        pin(x[axis], name, "it picks stored positions of it")
        return [[*lead, *found.input(node, 1), *tail]]
    first = int(flat[0])
    part = section(x[axis], first, len(flat), name)
    before = section(x[axis], 0, first, name) if first else None

    def moved() -> np.ndarray:
        start = 0 if before is None else size_of(before)
        run = np.arange(start, start + size_of(part), dtype=picked.dtype)
        return run.reshape([-1 if size != 1 else 1 for size in picked.shape])

    found.derive(node, 1, moved)
    return [[*lead, *[part if size != 1 else () for size in picked.shape], *tail]]


def gather_elements(found: Analysis, node: ir.Node) -> list[Dims]:
    x, index = found.input(node, 0), found.input(node, 1)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    _along(node, x, index, axis)
    return [list(index)]


def scatter_elements(found: Analysis, node: ir.Node) -> list[Dims]:
    x, index, updates = (found.input(node, i) for i in range(3))
    _along(node, x, index, normal_axis(attribute(node, "axis", 0), len(x)))
    for a, b in zip(index, updates, strict=True):
        unify(a, b, who(node))
    return [list(x)]


def _along(node: ir.Node, x: Dims, index: Dims, axis: int) -> None:
    """Across `axis` an index tensor covers the first elements of the data, usually all of them."""
    for place, (a, b) in enumerate(zip(x, index, strict=True)):
        if place != axis:
            unify(section(a, 0, size_of(b), who(node)), b, who(node))
    if is_stored(node.inputs[1]):
        pin(x[axis], who(node), "it counts stored positions of it")


def scatter_nd(found: Analysis, node: ir.Node) -> list[Dims]:
    """indices [..., k] hold coordinates in the first k axes; updates are [..., the other axes]."""
    x, index, updates = (found.input(node, i) for i in range(3))
    name, depth = who(node), size_of(index[-1])
    for a, b in zip(updates, [*index[:-1], *x[depth:]], strict=True):
        unify(a, b, name)
    pin(index[-1], name, "it is a coordinate")
    if depth > 1 or is_stored(node.inputs[1]):
        for term in x[:depth]:
            pin(term, name, "it writes to coordinates in it")
    return [list(x)]


def tensor_scatter(found: Analysis, node: ir.Node) -> list[Dims]:
    """A KV cache [batch, head, kv, head_dim] takes new rows; where they go is known at run time."""
    cache, update = found.input(node, 0), found.input(node, 1)
    axis = normal_axis(attribute(node, "axis", -2), len(cache))
    for place, (a, b) in enumerate(zip(cache, update, strict=True)):
        if place != axis:
            unify(a, b, who(node))
    rows = found.input(node, 2)
    if rows is not None:
        unify(cache[0], rows[0], who(node))
        if is_stored(node.inputs[2]):
            pin(cache[axis], who(node), "it writes to stored positions of it")
    return [list(cache)]


def one_hot(found: Analysis, node: ir.Node) -> list[Dims]:
    index, depth = list(found.input(node, 0)), constant(node, 1)
    axis = normal_axis(attribute(node, "axis", -1), len(index) + 1)
    new: Term = fresh_term(int(depth.reshape(())), who(node))
    found.derive(node, 1, lambda: np.full(depth.shape, size_of(new), depth.dtype))
    return [[*index[:axis], new, *index[axis:]]]


RULES: dict[str, Rule] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "OneHot": one_hot,
}
