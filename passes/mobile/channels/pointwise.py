"""What works number by number, rounding by one scale included, and what renames axes alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.axes.rules.elementwise import BROADCAST, UNARY
from edgevlm.compiler.quantised import LINEAR
from edgevlm.passes.mobile.channels.walk import Line, Walk, tokens_of
from edgevlm.passes.mobile.moves import is_one_scale, known_shape

__all__ = ["RULES"]


def pointwise(walk: Walk, node: ir.Node) -> Line | None:
    lines = [walk.lines[v] for v in node.inputs if v in walk.lines]
    if not lines or (node.op_type in LINEAR and not is_one_scale(node)):
        return None
    first = lines[0]
    if any((line.form, line.heads) != (first.form, first.heads) for line in lines):
        return None
    taken = []
    for value in node.inputs:
        new = None if value is None else _operand(walk, value, first)
        if value is not None and new is None:
            return None
        taken.append(new)
    attributes = {name: a.value for name, a in node.attributes.items()}
    made = walk.made(node.op_type, *taken, **attributes)
    made.producer().metadata_props.update(node.metadata_props)
    made.dtype = node.outputs[0].dtype
    return dataclasses.replace(first, value=made)


def _operand(walk: Walk, value: ir.Value, beside: Line) -> ir.Value | None:
    if value in walk.lines:
        return walk.lines[value].value
    if not known_shape(value):
        return None
    if value.shape.is_static() and all(d == 1 for d in value.shape) and value.is_initializer():
        return value if len(value.shape) <= 4 else None
    if beside.form != "tokens":
        return None  # by head, and not by channel
    if value.is_initializer():
        return _constant(walk, value)
    line = walk.turn(value)
    return line and line.value


def _constant(walk: Walk, value: ir.Value) -> ir.Value | None:
    """[..,C] or [..,S,C] as [1,C,1,1] or [1,C,1,S]."""
    array = value.const_value.numpy()
    if array.ndim > 3 or array.size != np.prod(array.shape[-2:]):
        return None
    if value not in walk.constants:
        rows = array.reshape(-1, array.shape[-1])
        laid = np.ascontiguousarray(rows.T)[None, :, None, :]
        walk.constants[value] = walk.build.const(laid, laid.dtype)
    return walk.constants[value]


def reshape(walk: Walk, node: ir.Node) -> Line | None:
    """[1,S,C] -> [1,S,H,d] and back, [1,S,C] -> [S,C], and for one token [1,1,C] -> [1,H,1,d]."""
    line = walk.lines.get(node.inputs[0])
    if line is None:
        return None
    shape = [int(d) for d in node.outputs[0].shape]
    count, channels = line.count, line.channels
    if line.form in ("tokens", "split"):
        if tokens_of(node.outputs[0]) == (count, channels):
            return Line(line.value)
        if len(shape) == 4 and shape[:2] == [1, count] and shape[2] * shape[3] == channels:
            return Line(line.value, "split", shape[2])
    if count == 1 and tokens_of(node.outputs[0]) == (1, channels):
        return Line(line.value)
    if count == 1 and len(shape) == 4 and (shape[0], shape[2]) == (1, 1):
        return Line(line.value, "heads", shape[1])
    return None


def transpose(walk: Walk, node: ir.Node) -> Line | None:
    """[1,S,H,d] -> [1,H,S,d] and back."""
    line = walk.lines.get(node.inputs[0])
    if line is None or list(attribute(node, "perm", ())) != [0, 2, 1, 3]:
        return None
    if line.form == "tokens":
        return None
    return dataclasses.replace(line, form="heads" if line.form == "split" else "split")


RULES = {
    **dict.fromkeys((*UNARY, *BROADCAST, *LINEAR), pointwise),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
}
