"""Cut a graph at some edges, so that the axes on either side are free of each other.

    before: v -> A, v -> B        cut(v, uses of B):  v -> A,  v' -> B   (v' a stand-in graph input)

Analyse the cut graph, `resize` what hangs on the stand-in, then `join`: every stand-in is replaced
by the value that feeds it from now on, a Gather of the original for instance.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

__all__ = ["cut", "join"]

Use = tuple[ir.Node, int]


def cut(graph: ir.Graph, value: ir.Value, uses: Sequence[Use]) -> ir.Value:
    """Let `uses` of `value` read a stand-in of the same shape; returns the stand-in."""
    stand_in = ir.Value(
        name=f"{value.name}/cut", shape=ir.Shape(value.shape), type=ir.TensorType(value.dtype)
    )
    graph.inputs.append(stand_in)
    for node, position in uses:
        node.replace_input_with(position, stand_in)
    return stand_in


def join(graph: ir.Graph, stand_in: ir.Value, value: ir.Value) -> None:
    """Let everything that reads the stand-in read `value`, and drop the stand-in."""
    for node, position in list(stand_in.uses()):
        node.replace_input_with(position, value)
    graph.inputs.remove(stand_in)
