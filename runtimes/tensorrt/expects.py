"""Which kernels a part must become: counted on the graph, held against what a builder made."""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.quantised import is_rounded, weights_of

__all__ = ["expected_kernels"]

INTEGERS = {ir.DataType.INT8: "int8_gemm", ir.DataType.FLOAT8E4M3FN: "fp8_gemm"}


def expected_kernels(part: ir.Model) -> dict[str, int]:
    """{"int8_gemm", "fp8_gemm", "mha"}: least counts; "fp32_gemm": the most."""
    found = dict.fromkeys(INTEGERS.values(), 0)
    for node in part.graph:
        maker = weights_of(node) if node.op_type in ("MatMul", "Gemm") else None
        if maker is None or not is_rounded(node.inputs[0]):
            continue
        codes = node.inputs[0].producer().inputs[0]
        name = INTEGERS.get(maker.inputs[0].dtype)
        if name is not None and codes.dtype == maker.inputs[0].dtype:
            found[name] += 1
    floats = [n for n in part.graph if n.op_type in ("MatMul", "Gemm") and _float(n)]
    attended = sum(_is_attention(node) for node in part.graph)
    return found | {"mha": attended, "fp32_gemm": len(floats)}


def _float(node: ir.Node) -> bool:
    return node.outputs[0].dtype == ir.DataType.FLOAT


def _is_attention(node: ir.Node) -> bool:
    """A softmax of half precision between two products, whatever is rounded on the way."""
    if node.op_type != "Softmax" or node.outputs[0].dtype != ir.DataType.FLOAT16:
        return False
    users = [user for user, _ in node.outputs[0].uses()]
    while len(users) == 1 and users[0].op_type in ("QuantizeLinear", "DequantizeLinear"):
        users = [user for user, _ in users[0].outputs[0].uses()]
    return len(users) == 1 and users[0].op_type == "MatMul"
