"""Add nodes to a graph: names that do not clash, constants as initializers, shapes inferred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

from edgevlm.compiler.shapes import infer_shapes

__all__ = ["GraphBuilder"]


class GraphBuilder:
    """Builds a small subgraph inside `model`; call `finish` once, it sorts and infers shapes.

    build = GraphBuilder(part, "keep_tokens")
    norm = build("ReduceL1", x, build.const([-1]), keepdims=0)
    best, index = build("TopK", norm, build.const([4]), outputs=2)
    """

    def __init__(self, model: ir.Model, prefix: str) -> None:
        self.model, self.graph, self.prefix = model, model.graph, prefix
        self._tape = tape.Tape(model.graph)
        self._count = 0
        taken = {str(n.name) for n in model.graph} | set(self.graph.initializers)
        taken |= {str(v.name) for n in model.graph for v in n.outputs}
        while any(name.startswith(f"{self.prefix}/") for name in taken):
            self.prefix += "_"

    def __call__(
        self, op: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: object
    ) -> ir.Value | tuple[ir.Value, ...]:
        """Append a node; returns its output, or a tuple of them."""
        made = self._tape.op_multi_out(op, inputs, num_outputs=outputs, attributes=attributes)
        self._count += 1
        made[0].producer().name = f"{self.prefix}/{self._count}_{op}"
        for i, value in enumerate(made):
            value.name = f"{self.prefix}/{self._count}_{op}_{i}"
        return made[0] if outputs == 1 else tuple(made)

    def const(self, array: object, dtype: type = np.int64) -> ir.Value:
        """An initializer; int64 unless said otherwise."""
        self._count += 1
        tensor = ir.tensor(np.asarray(array, dtype), name=f"{self.prefix}/{self._count}_const")
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            shape=ir.Shape(tensor.shape),
            type=ir.TensorType(tensor.dtype),
        )
        self.graph.register_initializer(value)
        return value

    def put(self, node: ir.Node, position: int, array: np.ndarray) -> None:
        """Another float32 constant for this node; the old one goes when nobody else reads it."""
        old = node.inputs[position]
        node.replace_input_with(position, self.const(array, np.float32))
        if not old.uses() and not old.is_graph_output():
            self.graph.initializers.pop(old.name, None)

    def take_over(self, old: ir.Value, new: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """`new` in place of `old`, with its names, shape and type; `nodes`, which made that, go."""
        name = old.producer().name
        new.shape, new.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        self.graph.remove(nodes, safe=True)
        new.name, new.producer().name = old.name, name

    def copy(self, value: ir.Value, instead: dict[ir.Value, ir.Value]) -> ir.Value:
        """What `value` would be with other values `instead` of some; what they do not reach stays.

        New nodes join `instead`, so that two calls share them.
        """
        reached: set[ir.Node] = set()
        waiting = list(instead)
        while waiting:
            users = {node for node, _ in waiting.pop().uses()} - reached
            reached |= users
            waiting.extend(v for node in users for v in node.outputs)
        return self._copy(value, instead, reached)

    def _copy(
        self, value: ir.Value, instead: dict[ir.Value, ir.Value], reached: set[ir.Node]
    ) -> ir.Value:
        """Goes back through `reached` only: all that lies in front may be deep and is never met."""
        node = value.producer()
        if value in instead or node not in reached:
            return instead.get(value, value)
        inputs = [v if v is None else self._copy(v, instead, reached) for v in node.inputs]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        made = self(node.op_type, *inputs, outputs=len(node.outputs), **attributes)
        for old, new in zip(
            node.outputs, made if isinstance(made, tuple) else (made,), strict=True
        ):
            new.shape, new.dtype = old.shape, old.dtype
            instead[old] = new
        return instead[value]

    def finish(self) -> None:
        """Put the graph in topological order and fill in shapes."""
        self.graph.sort()
        infer_shapes(self.model)
