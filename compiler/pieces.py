"""Pieces of a part, each a graph of its own; their ports are called as the values of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from edgevlm.compiler.contract import Port

if TYPE_CHECKING:
    from edgevlm.compiler.executor import Feeds

__all__ = ["Piece", "Where", "call_pieces", "piece_of"]

Where = Literal["device", "host"]


@dataclass(frozen=True)
class Piece:
    """One piece; its ports are called as the values of the whole part."""

    name: str  # vision_a, vision_a_to_b, vision_b
    runs: Where
    part: ir.Model

    @property
    def inputs(self) -> list[Port]:
        return [_port(value) for value in self.part.graph.inputs]

    @property
    def outputs(self) -> list[Port]:
        return [_port(value) for value in self.part.graph.outputs]


def call_pieces(
    pieces: Iterable[Piece], call: Callable[[Piece, Feeds], Mapping[str, object]], feeds: Feeds
) -> dict[str, object]:
    """Run pieces one behind the other; every value that was a port of one, by name."""
    values: dict[str, object] = dict(feeds)
    for piece in pieces:
        given = {port.name: values[port.name] for port in piece.inputs}
        values |= call(piece, given)
    return values


def piece_of(part: ir.Model, stages: Mapping[ir.Node, int], stage: int) -> ir.Model:
    """A part of its own of the nodes of one stage; those without a stage are in none."""
    places = {i for i, node in enumerate(part.graph) if stages.get(node) == stage}
    leave = [
        str(v.name)
        for i, node in enumerate(part.graph)
        for v in node.outputs
        if i in places and v.name
        and (v.is_graph_output() or any(stages.get(user, stage) > stage for user, _ in v.uses()))
    ]  # fmt: skip
    first = stage == min(stages.values())
    loose = [str(v.name) for v in part.graph.outputs if v.producer() is None] if first else []
    clone = part.clone()
    graph, nodes = clone.graph, list(clone.graph)
    mine = [node for i, node in enumerate(nodes) if i in places]
    known = {str(v.name): v for n in mine for v in n.outputs} | {
        str(v.name): v for v in (*graph.inputs, *graph.initializers.values())
    }
    given: dict[ir.Value, ir.Value] = {}
    for node in mine:
        for position, value in enumerate(node.inputs):
            if value is None or value.producer() is None or str(value.name) in known:
                continue
            if value not in given:
                given[value] = ir.Value(name=value.name, shape=value.shape, type=value.type)
            node.replace_input_with(position, given[value])
    while graph.outputs:
        graph.outputs.pop()
    graph.outputs.extend(known[name] for name in (*leave, *loose))
    graph.remove([node for i, node in enumerate(nodes) if i not in places], safe=True)
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    graph.inputs.extend(given.values())
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    return clone


def _port(value: ir.Value) -> Port:
    shape = tuple(int(d) for d in value.shape)
    return Port(
        name=str(value.name), dtype=value.dtype.name, shape=shape, axes=(None,) * len(shape)
    )
