"""Ops that work element by element: dimensions that meet are the same axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import label, pin
from edgevlm.compiler.axes.equations import unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, inputs, meet, normal_axis, who

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]

UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]

BROADCAST = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]


def unary(found: Analysis, node: ir.Node) -> list[Dims]:
    """One data input (Clip's bounds are scalars, CastLike's other input is a type)."""
    dims = found.input(node, 0)
    return [list(dims) for _ in node.outputs]


def broadcast(found: Analysis, node: ir.Node) -> list[Dims]:
    return [meet(node, inputs(found, node))]


def cumulative(found: Analysis, node: ir.Node) -> list[Dims]:
    """CumSum and Trilu depend on neighbours along an axis: the axes stay what they are."""
    return [list(found.input(node, 0))]


def dequantize(found: Analysis, node: ir.Node) -> list[Dims]:
    """Per-axis scales share the axis they scale; blocked scales pin it (a block is not cut)."""
    x = found.input(node, 0)
    axis = normal_axis(attribute(node, "axis", 1), max(len(x), 1))
    block, name = attribute(node, "block_size", 0), who(node)
    for side in (found.input(node, 1), found.input(node, 2)):
        if side is None:
            continue
        if block:
            for place, (a, b) in enumerate(zip(x, side, strict=True)):
                if place != axis:
                    unify(a, b, name)
                else:
                    pin(a, name, f"it is scaled in blocks of {block}")
                    pin(b, name, f"it is scaled in blocks of {block}")
        elif len(side) == 1 and side[0]:
            unify(x[axis], side[0], name)
    return [list(x)]


def batch_normalisation(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    for position in range(1, 5):
        unify(x[1], found.input(node, position)[0], who(node))
    label(x[1], "channel")
    return [list(x)] + [[x[1]] for _ in node.outputs[1:]]


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BROADCAST, broadcast),
    "CumSum": cumulative,
    "Trilu": cumulative,
    "QuantizeLinear": dequantize,
    "DequantizeLinear": dequantize,
    "BatchNormalization": batch_normalisation,
}
