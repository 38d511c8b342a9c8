"""Rows of an int8 table, looked up with their scales, as rows of a float one.

    before: Deq(Gather(codes [V,D], ids), Gather(scale [V], ids))
    after:  Gather(table [V,D], ids)           the same numbers, two bytes each in place of one

TensorRT looks up no int8 rows, and scales that are computed are none to it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["as_float_tables"]


def as_float_tables(part: ir.Model) -> ir.Model:
    """A copy of the part, or the part itself where it has no such table."""
    if not any(_looked_up(node) for node in part.graph):
        return part
    part = part.clone()
    build, made = GraphBuilder(part, "tables"), {}
    for node in list(part.graph):
        found = _looked_up(node)
        if found is None:
            continue
        codes, scale, ids = found
        if (codes, scale) not in made:
            steps = scale.const_value.numpy().astype(np.float32)[:, None]
            rows = codes.const_value.numpy().astype(np.float32) * steps
            made[codes, scale] = build.const(rows, node.outputs[0].dtype.numpy())
        build.take_over(node.outputs[0], build("Gather", made[codes, scale], ids, axis=0), [node])
    RemoveUnusedNodesPass()(part)
    build.finish()
    return part


def _looked_up(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """(codes, scales, which rows) behind a DequantizeLinear of looked-up rows."""
    if node.op_type != "DequantizeLinear":
        return None
    rows, scales = (value.producer() for value in node.inputs[:2])
    while scales is not None and scales.op_type in ("Reshape", "Cast"):
        scales = scales.inputs[0].producer()
    if rows is None or scales is None or not rows.op_type == scales.op_type == "Gather":
        return None
    if rows.inputs[1] is not scales.inputs[1]:
        return None
    if any(gather.attributes.get_int("axis", 0) for gather in (rows, scales)):
        return None
    codes, scale = rows.inputs[0], scales.inputs[0]
    if not (codes.is_initializer() and scale.is_initializer()):
        return None
    if (len(codes.shape), len(scale.shape)) != (2, 1):
        return None
    return codes, scale, rows.inputs[1]
