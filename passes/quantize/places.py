"""A value that only products read, and what can take up 1/s of its channels for nothing.

    norm        norm(x; g, b)                      g / s, b / s
    gate        a * (h U + b)                      U's columns / s, b / s
    linear      h U + b, moved about, ReLU         the same              (cross-layer equalisation)
    attention   V = h U + b, Attention, moved      the same; query heads that share a kv head share
                                                   s; caches hold V / s, which both parts agree on

The products then have s W in place of W: the function is the same and no node is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.blocks import NORMS
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cache_units import scale_units
from edgevlm.compiler.columns import Way, trace
from edgevlm.compiler.contract import Role
from edgevlm.compiler.pass_base import Note
from edgevlm.passes.quantize.layers import Layer

__all__ = ["FREE", "Kind", "Place", "agreed", "divide", "find_places", "tied"]

Kind = Literal["norm", "gate", "linear", "attention"]
#: kinds that leave every value but the place's own as it is
FREE: tuple[Kind, ...] = ("norm", "gate")
CACHES = ("prefill", "decode")  # parts that hand each other caches


@dataclass(frozen=True)
class Place:
    """s has an entry for each of the maker's columns; a channel of the value is one of them."""

    kind: Kind
    value: ir.Value
    products: tuple[ir.Node, ...]  # X W^T
    absorbs: tuple[tuple[ir.Node, int, int], ...]  # (node, input, its axis) that 1 / s goes into
    columns: np.ndarray  # int [m]: of a channel
    ports: Mapping[str, np.ndarray] = field(default_factory=dict)  # caches -> columns

    @cached_property
    def key(self) -> str:
        """The same in every part that holds these weights, as they were when first asked."""
        keys = [self.kind, *sorted(layer.key for layer in self.layers)]
        return hashlib.sha256("/".join(keys).encode()).hexdigest()

    @property
    def layers(self) -> list[Layer]:
        return [Layer.of(node) for node in self.products]

    def rows(self) -> np.ndarray:
        """The weights of all products, [n,m]."""
        return np.concatenate([layer.rows() for layer in self.layers])


def find_places(graph: ir.Graph, kinds: tuple[Kind, ...] = FREE) -> list[Place]:
    found = []
    for node in graph:
        value = node.outputs[0]
        users = list(value.uses())
        if value.is_graph_output() or not users or not all(_multiplies(*use) for use in users):
            continue
        place = _place(node, value, tuple(user for user, _ in users))
        if place is not None and place.kind in kinds:
            found.append(place)
    return found


def agreed(places: Mapping[Role, list[Place]]) -> tuple[dict[Role, list[Place]], list[Note]]:
    """Without places that change what a cache holds, where prefill and decode do not both do."""
    marks = [{_mark(place) for place in places.get(role, [])} for role in CACHES]
    common = (marks[0] & marks[1]) - {None}
    kept: dict[Role, list[Place]] = {role: [] for role in places}
    notes = []
    for role, mine in places.items():
        for place in mine:
            if not place.ports or _mark(place) in common:
                kept[role].append(place)
                continue
            why = f"{', '.join(sorted(place.ports))}: prefill and decode would not agree"
            notes.append(Note("skipped", f"{role}/{place.value.name}", why))
    return kept, notes


def _mark(place: Place) -> tuple[str, frozenset[tuple[str, bytes]]] | None:
    """The same where two parts scale the same caches alike.

    None where what goes out is scaled and what comes in is not, or the other way round.
    """
    there = {str(v.name) for v in place.products[0].graph.inputs}
    ports = {name: columns.tobytes() for name, columns in place.ports.items()}
    out = {name for name in ports if name not in there}
    for name in out:
        past = f"past_{name}"
        if past in there and ports.get(past) != ports[name]:
            return None
    if {name for name in ports if name in there} - {f"past_{name}" for name in out}:
        return None
    return place.key, frozenset((name, ports[name]) for name in out)


def tied(place: Place, channels: np.ndarray) -> np.ndarray:
    """Of numbers of channels [m] the largest of each column, back on all its channels [m]."""
    top = np.full(int(place.columns.max()) + 1, -np.inf)
    np.maximum.at(top, place.columns, channels)
    return top[place.columns]


def divide(build: GraphBuilder, place: Place, scale: np.ndarray) -> None:
    """The value becomes 1 / scale [m] of what it was, its products' weights scale times theirs."""
    scale = np.asarray(scale, np.float32)
    for layer in place.layers:
        build.put(layer.node, layer.position, layer.unrolled(layer.rows() * scale))
    for node, position, axis in place.absorbs:
        array = node.inputs[position].const_value.numpy()
        by = np.ones(array.shape[axis], np.float32)
        by[place.columns] = scale
        shape = [1] * array.ndim
        shape[axis] = len(by)
        build.put(node, position, array / by.reshape(shape))
    if place.ports:
        by = np.ones(int(max(c.max() for c in place.ports.values())) + 1, np.float32)
        by[place.columns] = scale
        scale_units(build.model, {name: by[cols] for name, cols in place.ports.items()})


def _multiplies(node: ir.Node, position: int) -> bool:
    """X W^T with a float matrix, the value being X."""
    if node.op_type not in ("MatMul", "Gemm") or position != 0 or not _float(node.inputs[1], 2):
        return False
    return Layer.of(node).takes_rows


def _place(node: ir.Node, value: ir.Value, products: tuple[ir.Node, ...]) -> Place | None:
    if node.op_type in NORMS:
        last = node.attributes.get_int("axis", -1) in (-1, len(value.shape) - 1)
        given = [i for i in range(1, len(node.inputs)) if node.inputs[i] is not None]
        if not last or not all(_float(node.inputs[i], 1) for i in given):
            return None
        absorbs = tuple((node, i, 0) for i in given)
        return Place("norm", value, products, absorbs, np.arange(int(value.shape[-1])))
    way = trace(value)
    if way is None:
        return None
    return Place(_kind(way), value, products, _absorbs(way), way.columns, way.ports)


def _kind(way: Way) -> Kind:
    if "Attention" in way.ops:
        return "attention"
    return "gate" if "Mul" in way.ops and way.ops <= {"Mul", "Add"} else "linear"


def _absorbs(way: Way) -> tuple[tuple[ir.Node, int, int], ...]:
    maker = way.maker
    found = [(maker, 1, Layer.of(maker).axis)]
    found += [(maker, i, -1) for i in range(2, len(maker.inputs)) if maker.inputs[i] is not None]
    return tuple(found if way.bias is None else [*found, (*way.bias, -1)])


def _float(value: ir.Value | None, rank: int) -> bool:
    if value is None or value.const_value is None or len(value.shape) != rank:
        return False
    return value.dtype == ir.DataType.FLOAT
