"""Which products of a part must become kernels of integers: counted on the graph, as written.py
hands it on.

    MatMul(Deq(Quant(x, s)), Deq(int8))    s fixed: int8-static; found for each row: int8-dynamic
    MatMul(Deq(Quant(x, s)), Deq(int4))    int4, whichever way its input is rounded

A product whose input is not rounded multiplies floats, whatever its weights are stored as.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.quantised import is_rounded, weights_of

__all__ = ["expected_kernels"]

INT4 = (ir.DataType.INT4, ir.DataType.UINT4)


def expected_kernels(part: ir.Model) -> dict[str, int]:
    """{"int8-static", "int8-dynamic", "int4"}: the least counts."""
    found = {"int8-static": 0, "int8-dynamic": 0, "int4": 0}
    for node in part.graph:
        maker = weights_of(node)
        if maker is None or not is_rounded(node.inputs[0]):
            continue
        if maker.inputs[0].dtype in INT4:
            found["int4"] += 1
        else:
            fixed = node.inputs[0].producer().inputs[1].const_value is not None
            found["int8-static" if fixed else "int8-dynamic"] += 1
    return found
