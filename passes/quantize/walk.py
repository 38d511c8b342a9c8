"""Go through a part layer by layer, holding what crosses the present cut and nothing else.

    nodes   a b c | d e f | g ...        to(d): runs a b c on every input, keeps what d e f g read
                  ^cut

A part may be edited behind the cut while one walks: what follows sees the edited weights in front
of it. Memory is the values that cross one cut, of all inputs; the work is that of one run, however
many cuts there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.executor import Feeds, open_session

__all__ = ["Walk"]


class Walk:
    """Over one part and a list of its inputs."""

    def __init__(self, part: ir.Model, feeds: Sequence[Feeds]) -> None:
        self.part = part
        self.values: list[dict[str, np.ndarray]] = [dict(feed) for feed in feeds]
        self._done: set[ir.Node] = set()

    def to(self, node: ir.Node) -> None:
        """Run whatever the inputs of `node` need and that has not run yet."""
        segment = self._in_front_of(node)
        self._done.update(segment)
        left = [n for n in self.part.graph if n not in self._done]
        wanted = {v for n in left for v in n.inputs if v is not None}
        made = [v for n in segment for v in n.outputs if v in wanted]
        if made:
            session = open_session(_cut_out(self.part, segment, made))
            names = [str(v.name) for v in made]
            takes = [i.name for i in session.get_inputs()]
            for held in self.values:
                outs = session.run(names, {name: held[name] for name in takes})
                held.update(zip(names, outs, strict=True))
        needed = {str(v.name) for v in wanted}
        self.values = [{k: a for k, a in held.items() if k in needed} for held in self.values]

    def inputs(self, value: ir.Value) -> list[np.ndarray]:
        """What a value that crosses the cut is, input by input."""
        return [held[str(value.name)] for held in self.values]

    def _in_front_of(self, node: ir.Node) -> list[ir.Node]:
        """Nodes that have not run, makers first; new nodes may stand anywhere in the graph."""
        order: dict[ir.Node, None] = {}
        waiting = [(node, False)]
        while waiting:
            at, ready = waiting.pop()
            if ready:
                order[at] = None
                continue
            waiting.append((at, True))
            makers = {v.producer() for v in at.inputs if v is not None} - {None}
            waiting += [(m, False) for m in makers if m not in self._done and m not in order]
        order.pop(node)
        return list(order)


def _cut_out(part: ir.Model, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> ir.Model:
    """A model of some of the nodes; what they read and do not make is an input."""
    inside = {v for n in nodes for v in n.outputs}
    read = dict.fromkeys(v for n in nodes for v in n.inputs if v is not None and v not in inside)
    constants = [v for v in read if v.is_initializer()]
    view = ir.GraphView(
        [v for v in read if not v.is_initializer()],
        outputs,
        nodes=nodes,
        initializers=constants,
        opset_imports=part.graph.opset_imports,
        name=part.graph.name,
    )
    return ir.Model(view.clone(), ir_version=part.ir_version)
