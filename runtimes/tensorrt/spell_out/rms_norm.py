"""x -> Cast -> x * x -> ReduceMean -> + epsilon -> Sqrt;  x / that -> Cast -> * weight

The sum of squares is one of float32 whatever x is (`stash_type`): of a stream of float16 it passes
65504 at once. https://onnx.ai/onnx/operators/onnx__RMSNormalization.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["rms_norm"]


def rms_norm(build: GraphBuilder, node: ir.Node) -> ir.Value:
    x, weight = node.inputs
    axis, rank = node.attributes.get_int("axis", -1), len(x.shape)
    wide = x
    if x.dtype != ir.DataType.FLOAT:
        wide = build("Cast", x, to=int(ir.DataType.FLOAT))
    axes = build.const(list(range(axis % rank, rank)))
    mean = build("ReduceMean", build("Mul", wide, wide), axes, keepdims=1)
    epsilon = build.const(node.attributes.get_float("epsilon", 1e-5), np.float32)
    normed = build("Div", wide, build("Sqrt", build("Add", mean, epsilon)))
    if x.dtype != ir.DataType.FLOAT:
        normed = build("Cast", normed, to=int(x.dtype))
    return build("Mul", normed, weight)
