"""x -> x * Sigmoid(alpha x). https://onnx.ai/onnx/operators/onnx__Swish.html"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["swish"]


def swish(build: GraphBuilder, node: ir.Node) -> ir.Value:
    x, alpha = node.inputs[0], node.attributes.get_float("alpha", 1.0)
    scaled = x if alpha == 1 else build("Mul", x, build.const(alpha, x.dtype.numpy()))
    return build("Mul", x, build("Sigmoid", scaled))
