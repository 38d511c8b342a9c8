"""Weights that are looked up in tables: indices of few bits, and the numbers that they stand for.

    Gather(table [P], Cast(indices [K,N]))                         one table for all of it
    Gather(table [G x P], Add(Cast(indices [K,N]), first [1,N]))   one for each group of channels

`first` is where in the whole the table of a channel begins: 0 0 0 P P P 2P 2P 2P. Indices are UINT4
or UINT8, so that ONNX Runtime runs the graph as it is; who knows tables finds them here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder

__all__ = ["Palette", "find_palette", "write_palette"]

INDICES = (ir.DataType.UINT4, ir.DataType.UINT8)


@dataclass(frozen=True)
class Palette:
    """What a Gather looks up."""

    indices: ir.Value  # initializer of the shape of the weight
    tables: np.ndarray  # float32 [G,P], P a power of two
    axis: int  # of the channels, N of them: the first N/G have table 0


def write_palette(
    build: GraphBuilder, indices: np.ndarray, tables: np.ndarray, axis: int, dtype: type
) -> ir.Value:
    """The weight as a Gather. indices [.., N, ..]; tables [G,P]; dtype: of one of INDICES."""
    groups, size = tables.shape
    at = build("Cast", build.const(indices, dtype), to=ir.DataType.INT32.value)
    if groups > 1:
        n = indices.shape[axis]
        first = np.arange(n) // (n // groups) * size
        shape = [n if i == axis else 1 for i in range(indices.ndim)]
        at = build("Add", at, build.const(first.reshape(shape), np.int32))
    return build("Gather", build.const(tables.ravel(), np.float32), at, axis=0)


def find_palette(node: ir.Node) -> Palette | None:
    """None for any other node."""
    if node.op_type != "Gather" or node.domain or node.attributes.get_int("axis", 0) != 0:
        return None
    table, at = node.inputs[0], node.inputs[1].producer()
    if not table.is_initializer() or len(table.shape) != 1 or at is None:
        return None
    first = None
    if at.op_type == "Add" and at.inputs[1].is_initializer() and at.inputs[0].producer():
        first, at = at.inputs[1].const_value.numpy(), at.inputs[0].producer()
    if at.op_type != "Cast" or not at.inputs[0].is_initializer():
        return None
    if at.inputs[0].dtype not in INDICES or table.dtype != ir.DataType.FLOAT:
        return None
    numbers = table.const_value.numpy()
    if first is None:
        return Palette(at.inputs[0], numbers[None], 0)
    groups, axis = len(np.unique(first)), int(np.argmax(first.shape))
    n = first.shape[axis]
    if first.size != n or n % groups or numbers.size % groups:
        return None
    tables = numbers.reshape(groups, -1)
    wanted = np.arange(n) // (n // groups) * tables.shape[1]
    return Palette(at.inputs[0], tables, axis) if np.array_equal(first.ravel(), wanted) else None
