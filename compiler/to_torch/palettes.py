"""Weights in lookup tables as one op, LutToDense(indices, lut), for tools that have it.

    Gather(table [G x P], Add(Cast(indices [K,N]), first))  ->  LutToDense(indices, lut [1,G,P,1])

lut has an axis for each of the weight, with as many tables along it, and then the numbers of one;
the last is for tables of vectors. It is so in Core ML and in Core AI.

Elsewhere the Gather is computed as it stands. The op is ours, as Linear is (linear.py).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.palettes import find_palette
from edgevlm.compiler.to_torch.linear import DOMAIN

__all__ = ["as_tables"]


def as_tables(part: ir.Model) -> ir.Model:
    """A copy of the part; the part itself where it has no tables."""
    if not any(find_palette(node) for node in part.graph):
        return part
    part = part.clone()
    build = GraphBuilder(part, "tables")
    for node in list(part.graph):
        found = find_palette(node)
        if found is None:
            continue
        makers = _makers(node)
        shape = [1] * len(found.indices.shape)
        shape[found.axis] = len(found.tables)
        lut = found.tables.reshape(*shape, -1, 1)
        indices = found.indices.const_value
        # coreai-torch finds both by these names
        made = build(
            "LutToDense",
            _stored(build, indices.numpy(), indices.dtype, f"{node.name}/indices"),
            _stored(build, lut, ir.DataType.FLOAT, f"{node.name}/lut"),
        )
        made.producer().domain = DOMAIN
        build.take_over(node.outputs[0], made, [node])
        for maker in makers:
            if not any(value.uses() for value in maker.outputs):
                part.graph.remove(maker, safe=True)
    part.opset_imports[DOMAIN] = 1
    part.graph.sort()
    return part


def _stored(build: GraphBuilder, array: np.ndarray, dtype: ir.DataType, name: str) -> ir.Value:
    tensor = ir.tensor(array, name=name, dtype=dtype)
    made = ir.Value(
        name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(dtype)
    )
    build.graph.register_initializer(made)
    return made


def _makers(node: ir.Node) -> list[ir.Node]:
    """Of the places: perhaps an Add, and the Cast in front of it; the last one first."""
    last = node.inputs[1].producer()
    return [last, last.inputs[0].producer()] if last.op_type == "Add" else [last]
