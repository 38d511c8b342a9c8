"""Follow a value through whatever only moves its numbers, to where they are read.

x -> Reshape -> Transpose -> Split -+- Squeeze -> q        leaves of x: q, k, each a view of x
                                    `- Squeeze -> k
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import LINEAR
from edgevlm.passes.mobile.view import View

__all__ = [
    "SAME_ORDER",
    "Leaf",
    "drop_unread",
    "follow",
    "is_mover",
    "is_one_scale",
    "known_shape",
    "moved",
    "put",
    "replayed",
]

SAME_ORDER = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@dataclass(frozen=True)
class Leaf:
    """A value that something computes with, and how it was come by."""

    value: ir.Value
    view: View
    then: tuple[ir.Node, ...] = ()  # roundings by one scale on the way
    axes: int = 0  # the most that a value behind the first has, its own included


def follow(
    value: ir.Value, view: View, goes: Callable[[View], bool] = lambda _: True
) -> tuple[list[Leaf], list[ir.Node]]:
    """Leaves, and the nodes between. No node is passed that would make a view that may not be."""
    leaves, between = [], []
    waiting = [Leaf(value, view)]
    while waiting:
        leaf = waiting.pop(0)
        ends = leaf.value.is_graph_output()
        for node, position in leaf.value.uses():
            further = _further(leaf, node, position)
            if further is None or not all(goes(each.view) for each in further):
                ends = True
            else:
                waiting += further
                between.append(node)
        if ends:
            leaves.append(leaf)
    return leaves, between


def _further(leaf: Leaf, node: ir.Node, position: int) -> list[Leaf] | None:
    if position == 0 and is_one_scale(node):
        return [replace(leaf, value=node.outputs[0], then=(*leaf.then, node))]
    views = moved(node, position, leaf.view)
    return views and [
        replace(leaf, value=value, view=view, axes=max(leaf.axes, len(view.dims)))
        for value, view in zip(node.outputs, views, strict=True)
        if value.name  # an output left out
    ]


def moved(node: ir.Node, position: int, view: View) -> list[View] | None:
    """What a node makes of a view, an output each; None if it does more than move numbers."""
    if position or node.domain not in ("", "ai.onnx") or not all(map(known_shape, node.outputs)):
        return None
    shape = [int(d) for d in node.outputs[0].shape]
    found: list[View | None] | None = None
    if node.op_type in SAME_ORDER:
        found = [view.reshape(shape)]
    elif node.op_type == "Transpose":
        found = [view.transpose(attribute(node, "perm", range(len(view.dims))[::-1]))]
    elif node.op_type == "Expand":
        found = [view.expand(shape)]
    elif node.op_type == "Tile" and node.inputs[1].const_value is not None:
        found = [view.tile(node.inputs[1].const_value.numpy().tolist())]
    elif node.op_type == "Split":
        axis, start, found = attribute(node, "axis", 0) % len(view.dims), 0, []
        for value in node.outputs:
            found.append(view.pick(axis, start, int(value.shape[axis])))
            start += int(value.shape[axis])
    elif node.op_type == "Slice":
        found = [_sliced(node, view)]
    elif node.op_type == "Gather":
        found = [_gathered(node, view)]
    return None if found is None or None in found else found


def _sliced(node: ir.Node, view: View) -> View | None:
    given = [None if v is None else v.const_value for v in node.inputs[1:]]
    bounds = [None if tensor is None else tensor.numpy().tolist() for tensor in given]
    starts, _, axes, steps = (*bounds, *[None] * (4 - len(bounds)))
    if any(v is not None and t is None for v, t in zip(node.inputs[1:], given, strict=True)):
        return None  # a bound is computed
    axes = axes or range(len(starts))
    for start, axis, step in zip(starts, axes, steps or [1] * len(starts), strict=True):
        whole, count = view.shape[axis], int(node.outputs[0].shape[axis])
        start = max(start + whole, 0) if start < 0 else start
        view = view.pick(axis % len(view.dims), start, count, step) if step > 0 else None
        if view is None:
            return None
    return view


def _gathered(node: ir.Node, view: View) -> View | None:
    """Places that lie evenly, or a single one, which leaves no axis."""
    index = node.inputs[1].const_value
    if index is None or len(index.shape) > 1 or index.size == 0:
        return None
    axis, places = attribute(node, "axis", 0) % len(view.dims), index.numpy()
    places = np.where(places < 0, places + view.shape[axis], places)
    steps = np.diff(places.reshape(-1))
    if len(set(steps.tolist())) > 1:
        return None
    step = int(steps[0]) if len(steps) else 1
    view = view.pick(axis, int(places.reshape(-1)[0]), places.size, step)
    if view is None or places.ndim:
        return view
    return replace(view, dims=view.dims[:axis] + view.dims[axis + 1 :])


def is_mover(node: ir.Node) -> bool:
    """Whether what it makes of a dense tensor is a view of that, or a rounding by one scale."""
    if is_one_scale(node):
        return True
    first = node.inputs[0] if node.inputs else None
    if first is None or first.const_value is not None or not known_shape(first):
        return False
    return moved(node, 0, View.of([int(d) for d in first.shape])) is not None


def is_one_scale(node: ir.Node) -> bool:
    """Whether it rounds, or undoes that, by one constant scale for all numbers."""
    if node.op_type not in LINEAR:
        return False
    return all(v is None or (v.const_value is not None and v.const_value.size == 1)
               for v in node.inputs[1:])  # fmt: skip


def replayed(build: GraphBuilder, value: ir.Value, then: Iterable[ir.Node]) -> ir.Value:
    """The same roundings again."""
    for node in then:
        attributes = {name: a.value for name, a in node.attributes.items()}
        shape = value.shape
        value = build(node.op_type, value, *node.inputs[1:], **attributes)
        value.shape, value.type = shape, node.outputs[0].type
    return value


def put(build: GraphBuilder, leaf: ir.Value, new: ir.Value, source: ir.Value) -> None:
    """`new` wherever `leaf` is read; a copy of it where it is the source and goes out as well."""
    if new is source and leaf.is_graph_output():
        new = build("Identity", source)
    fresh, name = new is not source, leaf.name
    if fresh:
        new.shape, new.type = leaf.shape, leaf.type
        leaf.name, new.name = f"{name}/moved", name
    ir.convenience.replace_all_uses_with(leaf, new, replace_graph_outputs=fresh)


def drop_unread(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Those of the nodes that nobody reads any more, and their constants."""
    among = set(nodes)
    for node in reversed([n for n in graph if n in among]):
        if any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        read = [v for v in node.inputs if v is not None and v.is_initializer()]
        graph.remove(node, safe=True)
        for value in read:
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                graph.initializers.pop(value.name, None)


def known_shape(value: ir.Value) -> bool:
    """Whether every dimension is a number above 0."""
    dims = list(value.shape) if value.shape is not None else [None]
    return all(isinstance(d, int) and d > 0 for d in dims)
