"""Take a number off each channel of what a LayerNorm gives; its products' bias makes up for it.

    before: LayerNorm(x; g, b) -> MatMul W -> Add c     after: LayerNorm(x; g, b - t)
                                                               -> MatMul W -> Add (c + W t)

A product without a bias gets an Add of its own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.places import Place

__all__ = ["can_shift", "shift"]


def can_shift(place: Place) -> bool:
    """A LayerNorm with a bias, in front of products that can all take one."""
    norm = place.value.producer()
    if norm.op_type != "LayerNormalization" or len(place.absorbs) < 2:
        return False
    return all(_takes_bias(node) for node in place.products)


def shift(build: GraphBuilder, place: Place, centre: np.ndarray) -> None:
    """centre [m]: off every row of the value."""
    norm, position, _ = place.absorbs[-1]
    build.put(norm, position, norm.inputs[position].const_value.numpy() - centre)
    for layer in place.layers:
        more = np.asarray(layer.rows(), np.float64) @ centre
        _add_bias(build, layer, more)


def _takes_bias(node: ir.Node) -> bool:
    if node.outputs[0].is_graph_output():
        return False
    if node.op_type == "MatMul":
        return True
    one = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1
    given = node.inputs[2] if len(node.inputs) > 2 else None
    return one and given is not None and given.const_value is not None


def _add_bias(build: GraphBuilder, layer: Layer, more: np.ndarray) -> None:
    node, out = layer.node, layer.node.outputs[0]
    if node.op_type == "Gemm":
        build.put(node, 2, node.inputs[2].const_value.numpy() + more)
        return
    users = list(out.uses())
    for user, position in users:
        other = user.inputs[1 - position] if user.op_type == "Add" else None
        known = other is not None and other.const_value is not None and len(users) == 1
        if known and other.const_value.shape == more.shape:
            build.put(user, 1 - position, other.const_value.numpy() + more)
            return
    total = build("Add", out, build.const(more, np.float32))
    for user, position in users:
        user.replace_input_with(position, total)
