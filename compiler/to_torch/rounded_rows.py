"""Rows rounded by scales of run time as one op, RoundRows(x), for kernels that do it inside.

    t = max|x| of a row / 127; Deq(Quant(x, t), t)       ->       RoundRows(x)

Tools look for torchao's three ops (choose_qparams, quantize, dequantize) in front of a product.
What becomes of them is theirs: XNNPACK rounds a row to [min, max] with a zero point that it finds,
which is as fine as ours or finer. The op is ours, as Linear is (linear.py).
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.to_torch.linear import DOMAIN

__all__ = ["as_rounded_rows"]


def as_rounded_rows(part: ir.Model) -> ir.Model:
    """A copy of the part; every reader has an op of its own, as partitioners want it."""
    if not any(_of_rows(node) for node in part.graph):
        return part
    part = part.clone()
    build, gone = GraphBuilder(part, "rows"), set()
    for node in list(part.graph):
        x = _of_rows(node)
        if x is None:
            continue
        for user, position in list(node.outputs[0].uses()):
            made = build("RoundRows", x)
            made.producer().domain = DOMAIN
            made.shape, made.type = node.outputs[0].shape, node.outputs[0].type
            user.replace_input_with(position, made)
        gone.add(node)
    _drop(part.graph, gone)
    part.opset_imports[DOMAIN] = 1
    part.graph.sort()
    return part


def _of_rows(node: ir.Node) -> ir.Value | None:
    """What a DequantizeLinear gives back, rounded by one computed scale a row."""
    if node.op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
        return None
    codes, scale = node.inputs[:2]
    maker = codes.producer()
    if maker is None or maker.op_type != "QuantizeLinear" or maker.inputs[1] is not scale:
        return None
    x = maker.inputs[0]
    whole = node.attributes.get_int("block_size", 0) == x.shape[-1]
    last = node.attributes.get_int("axis", 1) in (-1, len(x.shape) - 1)
    return x if scale.const_value is None and whole and last else None


def _drop(graph: ir.Graph, gone: set[ir.Node]) -> None:
    """These, and all that was computed for them alone."""
    waiting = list(gone)
    while waiting:
        node = waiting.pop()
        if node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        makers = [v.producer() for v in node.inputs if v is not None and v.producer() is not None]
        graph.remove(node, safe=True)
        waiting.extend(makers)
