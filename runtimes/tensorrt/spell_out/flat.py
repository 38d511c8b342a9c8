"""Ops that TensorRT wants two dimensions for, on a row of numbers: one more, and away again.

ArgMax(x [N])  ->  Unsqueeze [1,N] -> ArgMax on axis 1 -> Squeeze
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["WIDENED", "widened"]

#: seen with tensorrt-rtx 1.7.1: "at least 2 dimensions are required for input"
WIDENED = frozenset({"ArgMax", "ArgMin", "Softmax", "LogSoftmax", "Hardmax"})


def widened(build: GraphBuilder, node: ir.Node) -> ir.Value:
    """Of a node whose input has one dimension."""
    first = build.const([0])
    attributes = {name: a.value for name, a in node.attributes.items()} | {"axis": 1}
    wide = build(node.op_type, build("Unsqueeze", node.inputs[0], first), **attributes)
    return build("Squeeze", wide, first)
