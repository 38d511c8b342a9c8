"""Products with stored weights as one op, Linear(x, w [N,K], b [N]), which torch and tools know.

    MatMul(x, W [K,N]) (-> Add b)                  Linear(x, W', b)
    MatMul(x, Deq(codes [K,N], s [N]))       ->    Linear(x, Deq(codes', s), b)
    Gemm(x, W, b)                                  Linear(x, W or W', b)

Backends delegate aten.linear, and quantised kernels read weights a row an output channel; what is
a MatMul with a transposed constant to them is often a float product or none. The op is ours
(domain edgevlm): it is written a moment before the part becomes a torch module, and never stored.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["DOMAIN", "as_linears"]

DOMAIN = "edgevlm"
#: of what is stored, the weights
UNPACKED = ("DequantizeLinear", "LutToDense")


def as_linears(part: ir.Model) -> ir.Model:
    """A copy of the part in which stored 2-D weights of products are [outputs, inputs]."""
    part = part.clone()
    build, turned = GraphBuilder(part, "linear"), {}
    for node in list(part.graph):
        weights = _weights(node)
        if weights is None:
            continue
        gemm = node.op_type == "Gemm"
        rows_are_outputs = gemm and bool(node.attributes.get_int("transB", 0))
        w = weights if rows_are_outputs else _turn(build, weights, turned)
        bias, last = (_gemm_bias(node), node) if gemm else _added_bias(node)
        made = _linear(build, node.inputs[0], w, bias)
        build.take_over(last.outputs[0], made, [last] if last is node else [last, node])
        made.producer().name = node.name  # of the product, as recipes and reports name layers
    for value in turned:
        maker = value.producer()
        if maker is not None and not value.uses() and not value.is_graph_output():
            part.graph.remove(maker)
    part.opset_imports[DOMAIN] = 1
    part.graph.sort()
    return part


def _linear(build: GraphBuilder, x: ir.Value, weights: ir.Value, bias: ir.Value | None) -> ir.Value:
    made = build("Linear", x, weights, *([] if bias is None else [bias]))
    made.producer().domain = DOMAIN
    return made


def _weights(node: ir.Node) -> ir.Value | None:
    """The stored [K,N] or [N,K] of a product: numbers, or codes or indices of them."""
    if node.op_type not in ("MatMul", "Gemm"):
        return None
    value = node.inputs[1]
    maker = value.producer()
    stored = maker.inputs[0] if maker is not None and maker.op_type in UNPACKED else value
    if not stored.is_initializer() or len(stored.shape) != 2:
        return None
    if node.op_type == "MatMul":
        return value
    scaled = (node.attributes.get_float(name, 1.0) != 1 for name in ("alpha", "beta"))
    turned = node.attributes.get_int("transA", 0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    plain = bias is None or (bias.is_initializer() and bias.const_value.size == _outputs(node))
    return value if plain and not turned and not any(scaled) else None


def _outputs(node: ir.Node) -> int:
    return int(node.inputs[1].shape[0 if node.attributes.get_int("transB", 0) else 1])


def _gemm_bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 else None


def _added_bias(node: ir.Node) -> tuple[ir.Value | None, ir.Node]:
    """A stored vector that is all that is done with a product, and the last of the nodes."""
    value, width = node.outputs[0], int(node.inputs[1].shape[-1])
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output() or users[0][0].op_type != "Add":
        return None, node
    add, position = users[0]
    bias = add.inputs[1 - position]
    vector = bias.is_initializer() and list(bias.shape) == [width]
    return (bias, add) if vector else (None, node)


def _turn(build: GraphBuilder, value: ir.Value, turned: dict[ir.Value, ir.Value]) -> ir.Value:
    """The transpose of a stored matrix; of codes, what a DequantizeLinear along the other axis
    makes of theirs. One that several products read is turned once."""
    if value in turned:
        return turned[value]
    maker = value.producer()
    if maker is None:
        return _stored(build, value, turned)
    if maker.op_type == "LutToDense":
        made = build("LutToDense", *(_stored(build, side, turned) for side in maker.inputs))
        made.producer().domain = DOMAIN
        turned[value] = made
        return made
    codes, scale, *zero = maker.inputs
    axis, block = maker.attributes.get_int("axis", 1) % 2, maker.attributes.get_int("block_size", 0)
    more = {"axis": 1 - axis} | ({"block_size": block} if block else {})
    blocks = len(scale.shape) == 2
    sides = [_stored(build, side, turned) if blocks else side for side in (scale, *zero)]
    turned[value] = build("DequantizeLinear", _stored(build, codes, turned), *sides, **more)
    return turned[value]


def _stored(build: GraphBuilder, value: ir.Value, turned: dict[ir.Value, ir.Value]) -> ir.Value:
    """Codes may have several DequantizeLinear, one for each who reads them."""
    if value in turned:
        return turned[value]
    tensor = value.const_value
    array = np.ascontiguousarray(np.swapaxes(tensor.numpy(), 0, 1))
    name = f"{value.name}/turned"
    made = ir.tensor(array, name=name, dtype=tensor.dtype)
    new = ir.Value(
        name=name, const_value=made, shape=ir.Shape(made.shape), type=ir.TensorType(tensor.dtype)
    )
    build.graph.register_initializer(new)
    turned[value] = new
    return new
