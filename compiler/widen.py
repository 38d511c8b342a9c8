"""Four-bit weights as int8, the same integers: for kernels that take nothing smaller."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["int4_as_int8"]


def int4_as_int8(part: ir.Model) -> ir.Model:
    """A copy in which INT4 weights with a scale an output channel are INT8; blocks stay four bits.

    The part itself where it has none.
    """
    found = [node for node in part.graph if _narrow(node)]
    if not found:
        return part
    part = part.clone()
    build, wide = GraphBuilder(part, "wide"), {}
    for node in part.graph:
        if _narrow(node):
            stored = node.inputs[0]
            if stored not in wide:
                wide[stored] = build.const(stored.const_value.numpy().astype(np.int8), np.int8)
            node.replace_input_with(0, wide[stored])
    for stored in wide:
        if not stored.uses():
            part.graph.initializers.pop(stored.name)
    return part


def _narrow(node: ir.Node) -> bool:
    if node.op_type != "DequantizeLinear" or len(node.inputs[1].shape) > 1:
        return False
    return node.inputs[0].is_initializer() and node.inputs[0].dtype == ir.DataType.INT4
