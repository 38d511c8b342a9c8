"""QuantizeLinear and DequantizeLinear as TensorRT's parser reads them, by opset.

    QuantizeLinear     its type is that of a zero point of zeros; of `output_dtype` from opset 21 on
                       where a zero point of that type has no room in the file (int4)
    DequantizeLinear   `axis` always stands there: left out, ONNX means 1 and TensorRT means 0
                       `block_size` goes with blocks of all inputs; the parser infers it from shapes
    one a channel, of  what is no weight (int8 caches, a scale a head) has one scale a tensor there:
                       Quant(x, s) -> Quant(x * 1/s, 1),  Deq(q, s) -> Deq(q, 1) * s

A scale in blocks needs opset 21 (INT4 and blocks came with it); the rest is as in opset 19.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import LINEAR

__all__ = ["as_parsed", "least_opset"]

BLOCKS_OPSET = 21
ZEROS = {ir.DataType.INT8: np.int8, ir.DataType.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn}


def least_opset(part: ir.Model) -> int:
    """That its quantisation needs."""
    four = any(v.dtype == ir.DataType.INT4 for v in part.graph.initializers.values())
    blocks = any(n.op_type in LINEAR and len(n.inputs[1].shape) > 1 for n in part.graph)
    return BLOCKS_OPSET if four or blocks else 19


def as_parsed(part: ir.Model) -> ir.Model:
    """A copy of the part, or the part itself where nothing is quantised."""
    if not any(node.op_type in LINEAR for node in part.graph):
        return part
    part = part.clone()
    build, zeros = GraphBuilder(part, "linear"), {}
    for node in [n for n in part.graph if n.op_type in LINEAR]:
        _one_scale(build, node)
        scale = node.inputs[1]
        channels = len(scale.shape) == 1
        _state_axis(node, channels)
        coded = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        if node.op_type == "DequantizeLinear" or coded.dtype not in ZEROS:
            continue
        key = coded.dtype, tuple(int(d) for d in scale.shape)
        if key not in zeros:
            zeros[key] = build.const(np.zeros(key[1]), ZEROS[key[0]])
        node.attributes.pop("output_dtype", None)
        node.resize_inputs(3)
        node.replace_input_with(2, zeros[key])
    build.finish()
    return part


def _one_scale(build: GraphBuilder, node: ir.Node) -> None:
    """A number times its channel's scale in front of it or behind, where no weights are rounded."""
    data, scale = node.inputs[:2]
    if data.is_initializer() or scale.const_value is None or len(scale.shape) != 1:
        return
    kind, steps = scale.dtype.numpy(), scale.const_value.numpy().astype(np.float32)
    shape = [1] * len(data.shape)
    shape[node.attributes.get_int("axis", 1)] = len(steps)
    quantises = node.op_type == "QuantizeLinear"
    by = build.const((1 / steps if quantises else steps).reshape(shape), kind)
    node.attributes.pop("axis", None)
    node.replace_input_with(1, build.const(1, kind))
    if quantises:
        node.replace_input_with(0, build("Mul", data, by))
        return
    out, name = node.outputs[0], node.outputs[0].name
    scaled = build("Mul", out, by)
    scaled.shape, scaled.type = out.shape, out.type
    ir.convenience.replace_all_uses_with(out, scaled, replace_graph_outputs=True)
    scaled.producer().replace_input_with(0, out)
    out.name, scaled.name = f"{name}/unscaled", name


def _state_axis(node: ir.Node, channels: bool) -> None:
    scale, block = node.inputs[1], node.attributes.get_int("block_size", 0)
    if channels:
        axis = node.attributes.get_int("axis", 1)
        node.attributes["axis"] = ir.AttrInt64("axis", axis)
    elif len(scale.shape) > 1:
        axis = node.attributes.get_int("axis", 1)
        if int(scale.shape[axis]) == 1:  # one block of all inputs is shorter than asked
            block = int(node.inputs[0].shape[axis])
        node.attributes["axis"] = ir.AttrInt64("axis", axis)
        node.attributes["block_size"] = ir.AttrInt64("block_size", block)
