"""Change the types of a graph: float16 everywhere but at some nodes, with casts between."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["in_half"]

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


def in_half(part: ir.Model, stays: set[ir.Node], half_ports: set[str]) -> bool:
    """Edits the part; whether anything had another type than it should have.

    stays: nodes that keep float32; half_ports: ports that become float16.
    """
    graph, build = part.graph, GraphBuilder(part, "half")
    types, borders, before = _Types(build), _borders(graph, stays), _kinds(graph)
    for value in graph.inputs:
        if value.name in half_ports and value.dtype == FLOAT:
            value.type = ir.TensorType(HALF)
    for node in list(graph):
        if node in borders:
            continue
        kind = FLOAT if node in stays else HALF
        for i, value in enumerate(node.inputs):
            if value is not None and value.dtype in (FLOAT, HALF):
                wanted = HALF if kind == HALF and _varies(node, i) else FLOAT
                node.replace_input_with(i, types.of(value, wanted))
        _retype(node, kind)
        _keep_inside(node, types)
    for i, value in enumerate(list(graph.outputs)):
        if value.dtype not in (FLOAT, HALF):
            continue
        wanted = HALF if value.name in half_ports else FLOAT
        if value.dtype != wanted:
            graph.outputs[i] = _port(build, value, wanted)
    if _kinds(graph) == before:
        return False
    _drop_unread(graph)
    build.finish()
    return True


def _kinds(graph: ir.Graph) -> list[tuple[ir.DataType | None, ...]]:
    """Of inputs and outputs of all there is; a run that changes none of them adds no node."""
    sides = [(*node.inputs, *node.outputs) for node in graph]
    return [
        tuple(None if v is None else v.dtype for v in side)
        for side in (graph.inputs, graph.outputs, *sides)
    ]


def _borders(graph: ir.Graph, stays: set[ir.Node]) -> set[ir.Node]:
    """Casts that stand between the two types already, as an earlier run left them."""
    found = set()
    for node in graph:
        if node.op_type != "Cast":
            continue
        kinds = node.inputs[0].dtype, node.outputs[0].dtype
        users = {user for user, _ in node.outputs[0].uses()}
        if kinds == (FLOAT, HALF) or (kinds == (HALF, FLOAT) and users <= stays):
            found.add(node)
    return found


class _Types:
    """Values in another type, each made once."""

    def __init__(self, build: GraphBuilder) -> None:
        self.build, self.made = build, {}

    def of(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        if value.dtype == kind:
            return value
        if (value, kind) not in self.made:
            if value.const_value is not None and value.is_initializer():
                array = value.const_value.numpy().astype(kind.numpy())
                new = self.build.const(array, kind.numpy())
            else:
                new = self.build("Cast", value, to=int(kind))
                new.shape, new.type = value.shape, ir.TensorType(kind)
            self.made[value, kind] = new
        return self.made[value, kind]


def _varies(node: ir.Node, i: int) -> bool:
    """Whether the type of an input is the caller's choice."""
    formals = onnx.defs.get_schema(node.op_type, 23, "").inputs
    return not formals[min(i, len(formals) - 1)].type_str.startswith("tensor(")


def _retype(node: ir.Node, kind: ir.DataType) -> None:
    for value in node.outputs:
        if value.dtype in (FLOAT, HALF):
            value.type = ir.TensorType(kind)
    if kind != HALF:
        return
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) == FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(HALF))
    if node.op_type == "ConstantOfShape" and node.outputs[0].dtype == HALF:
        filled = node.attributes.get("value")
        number = np.float16(filled.value.numpy()[0] if filled else 0)
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.array([number])))


def _keep_inside(node: ir.Node, types: _Types) -> None:
    """Bodies of nodes (If, Loop) that read it from outside keep its type."""
    for value in node.outputs:
        if value.dtype == HALF:
            for user, i in list(value.uses()):
                if user.graph is not node.graph:
                    user.replace_input_with(i, types.of(value, FLOAT))


def _port(build: GraphBuilder, value: ir.Value, kind: ir.DataType) -> ir.Value:
    """The same port by another node; what made it keeps its place and loses its name."""
    name = inner = str(value.name)
    taken = {str(v.name) for node in build.graph for v in node.outputs}
    while inner in taken:
        inner += "/inner"
    value.name = inner
    cast = build("Cast", value, to=int(kind))
    cast.name, cast.shape, cast.type = name, value.shape, ir.TensorType(kind)
    return cast


def _drop_unread(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
