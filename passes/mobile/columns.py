"""Compute some columns of a linear layer: the layer again, with those columns of all it stores.

    x W + b -> rounded          columns C:   x W[:,C] + b[C] -> rounded

Stored integers stay integers: of DequantizeLinear(codes, scales) the codes are sliced, and of the
scales those that lie along the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import is_rounded
from edgevlm.passes.mobile.moves import is_one_scale, known_shape

__all__ = ["Columns", "climb", "is_stored", "stored_matrix"]

PRODUCTS = ("MatMul", "Gemm")
PAIRS = ("Add", "Sub", "Mul", "Div")
LINEAR = ("QuantizeLinear", "DequantizeLinear")


def stored_matrix(node: ir.Node) -> tuple[ir.Value, int] | None:
    """(the matrix a product stores, its axis of columns); None where it is computed or on the left.

    A matrix stored as integers is the output of its DequantizeLinear.
    """
    if node.op_type not in PRODUCTS or node.domain not in ("", "ai.onnx"):
        return None
    matrix = node.inputs[1]
    if not is_stored(matrix) or not known_shape(matrix) or len(matrix.shape) != 2:
        return None
    if node.op_type == "Gemm" and not all(v is None or is_stored(v) for v in node.inputs[2:]):
        return None
    turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return matrix, 0 if turned else 1


def climb(product: ir.Node) -> ir.Value:
    """The last value behind a product that is still made column by column, and read by one node."""
    value = product.outputs[0]
    while True:
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            return value
        node = uses[0][0]
        after = node.outputs[0]
        if not by_column(node, value) or after.shape != value.shape:
            return value
        value = after


def by_column(node: ir.Node, value: ir.Value) -> bool:
    """Whether each column of what it gives needs that column of `value` alone."""
    if node.op_type in LINEAR:
        return node.inputs[0] is value and (is_one_scale(node) or _along_last(node))
    if node.op_type == "Cast":
        return True
    if node.op_type not in PAIRS:
        return False
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    return is_stored(other) or _is_columns(other, value)


def _is_columns(other: ir.Value, value: ir.Value) -> bool:
    """Whether it is another product's columns of the same shape, read here alone."""
    node, alone = other.producer(), len(other.uses()) == 1 and not other.is_graph_output()
    if other is value or node is None or other.shape != value.shape or not alone:
        return False
    if node.op_type in PRODUCTS:
        return stored_matrix(node) is not None
    return any(v is not None and by_column(node, v) and _is_columns(v, value) for v in node.inputs)


@dataclass
class Columns:
    """Builds columns of values; each stored tensor is sliced once."""

    build: GraphBuilder
    count: int  # of all columns
    copied: set[ir.Node] = field(default_factory=set)  # of which there is another now
    _made: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def __call__(self, value: ir.Value, chosen: np.ndarray) -> ir.Value:
        """Columns `chosen` [n] of a value that `climb` gave, or of one on the way there."""
        node = value.producer()
        if is_stored(value):
            return self._stored(value, chosen, -1) if self._carries(value) else value
        inputs = list(node.inputs)
        if (found := stored_matrix(node)) is not None:
            inputs[0] = self._own(inputs[0])
            inputs[1] = self._stored(found[0], chosen, found[1])
            inputs[2:] = [v if v is None or not self._carries(v) else self._stored(v, chosen, -1)
                          for v in inputs[2:]]  # fmt: skip
        elif node.op_type in LINEAR:
            along = not is_one_scale(node)
            inputs = [self(inputs[0], chosen)] + [
                self._stored(v, chosen, -1) if along and v is not None else v for v in inputs[1:]
            ]
        else:
            inputs = [self(v, chosen) for v in inputs]
        made = self._again(node, inputs)
        made.shape = ir.Shape([*list(value.shape)[:-1], len(chosen)])
        made.type = value.type
        return made

    def _carries(self, value: ir.Value) -> bool:
        return len(value.shape) > 0 and value.shape[-1] == self.count

    def _own(self, x: ir.Value) -> ir.Value:
        """Rounded inputs are made float again for each product: tools fuse what it alone reads."""
        return self._again(x.producer(), x.producer().inputs) if is_rounded(x) else x

    def _again(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Value:
        attributes = {name: a.value for name, a in node.attributes.items()}
        self.copied.add(node)
        made = self.build(node.op_type, *inputs, **attributes)
        made.producer().metadata_props.update(node.metadata_props)
        made.shape, made.type = node.outputs[0].shape, node.outputs[0].type
        return made

    def _stored(self, value: ir.Value, chosen: np.ndarray, axis: int) -> ir.Value:
        axis %= len(value.shape)
        key = value, axis, chosen.tobytes()
        if key not in self._made:
            self._made[key] = self._sliced(value, chosen, axis)
        return self._made[key]

    def _sliced(self, value: ir.Value, chosen: np.ndarray, axis: int) -> ir.Value:
        if value.const_value is not None:
            array = np.take(value.const_value.numpy(), chosen, axis)
            return self.build.const(np.ascontiguousarray(array), array.dtype)
        node = value.producer()
        codes, *scales = node.inputs
        lies = attribute(node, "axis", 1) % len(value.shape)
        inputs = [self._stored(codes, chosen, axis)]
        for scale in scales:
            if scale is None or len(scale.shape) == 0 or scale.const_value.size == 1:
                inputs.append(scale)
            elif len(scale.shape) == 1:
                inputs.append(self._stored(scale, chosen, 0) if lies == axis else scale)
            else:  # blocks along the other axis
                inputs.append(self._stored(scale, chosen, axis))
        made = self._again(node, inputs)
        made.shape = inputs[0].shape
        return made


def is_stored(value: ir.Value | None) -> bool:
    """An initializer, or integers and scales that are, in blocks along rows if at all."""
    if value is None:
        return False
    if value.const_value is not None:
        return value.producer() is None
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or not known_shape(value):
        return False
    return all(v is None or v.is_initializer() for v in node.inputs)


def _along_last(node: ir.Node) -> bool:
    """One scale a column."""
    rank = len(node.outputs[0].shape)
    known = all(v is None or v.const_value is not None for v in node.inputs[1:])
    return (
        known and len(node.inputs[1].shape) == 1 and attribute(node, "axis", 1) % rank == rank - 1
    )
