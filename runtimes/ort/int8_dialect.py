"""Write int8 parts as ONNX Runtime's CPU provider fuses them, bit for bit the same.

    activations   Quant(x, s)    -> uint8 with zero point 128        weights,  -> int8, zero point 0
                  Deq(q, s)      -> the same                         ports        written out;
                                                                                  int4 widened

round(x / s) clipped to [-128, 127] and that plus 128 clipped to [0, 255] are the same number, so an
int8 tensor without a zero point is exactly a uint8 one with zero point 128. ONNX Runtime turns int8
into uint8 itself, but only where one product reads the value: q, k and v projections of one input
stay float products of values made float again, slower than no quantisation. Where `output_dtype`
alone says int8 its passes add a zero point of another type and the file does not load. Ports (the
rows of an int8 KV cache) keep the type that the contract says. Constants that are read as float
(weights of a convolution) become Cast and Mul, which are folded when a session opens;
DequantizeLinear would run at every call. The dialect of the compiler, and what other targets get,
has no zero point anywhere.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import LINEAR, is_port, is_rounded, weights_of
from edgevlm.compiler.widen import int4_as_int8

__all__ = ["as_uint8"]


def as_uint8(part: ir.Model) -> ir.Model:
    """A copy of the part; every QuantizeLinear and DequantizeLinear of it has a zero point."""
    part = int4_as_int8(part).clone()
    build, zeros = GraphBuilder(part, "zero_point"), {}
    for node in list(part.graph):
        if node.op_type not in LINEAR or len(node.inputs) > 2:
            continue
        stored, scale = node.inputs
        if len(scale.shape) > 1:
            continue  # blocks
        if _read_as_float(node):
            _spell_out(build, node)
            continue
        code = node.outputs[0] if node.op_type == "QuantizeLinear" else stored
        maker = code.producer()
        made_here = maker is not None and maker.op_type == "QuantizeLinear"
        active = made_here and not is_port(code)
        if scale.const_value is None:
            continue  # rows of a table, looked up with their scales
        key = active, tuple(int(d) for d in scale.shape)
        if key not in zeros:
            value = (128, np.uint8) if active else (0, np.int8)
            zeros[key] = build.const(np.full(key[1], value[0]), value[1])
        node.attributes.pop("output_dtype", None)
        node.resize_inputs(3)
        node.replace_input_with(2, zeros[key])
        if active and node.op_type == "QuantizeLinear":
            node.outputs[0].type = ir.TensorType(ir.DataType.UINT8)  # a clone shares the old one
    build.finish()
    return part


def _read_as_float(node: ir.Node) -> bool:
    """Whether it makes a constant, and no int8 product takes that for its weights."""
    if any(value.const_value is None for value in node.inputs):
        return False
    users = [user for user, _ in node.outputs[0].uses()]
    return not any(weights_of(user) is node and is_rounded(user.inputs[0]) for user in users)


def _spell_out(build: GraphBuilder, node: ir.Node) -> None:
    """w = float(code) * scale, the numbers of DequantizeLinear."""
    (stored, scale), out = node.inputs, node.outputs[0]
    step = scale.const_value.numpy()
    if step.ndim:
        wide = [1] * len(stored.shape)
        wide[node.attributes.get_int("axis", 1)] = len(step)
        step = step.reshape(wide)
    code = build("Cast", stored, to=int(ir.DataType.FLOAT))
    weights = build("Mul", code, build.const(step, np.float32))
    ir.convenience.replace_all_uses_with(out, weights)
    build.graph.remove(node, safe=True)
