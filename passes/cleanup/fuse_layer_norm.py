"""Layer normalisation written out becomes one node.

    before: x -> ReduceMean, Sub -> Pow 2, ReduceMean, + eps, Sqrt -> Div -> x scale -> + bias
    after:  LayerNormalization(x, scale, bias)

torch up to opset 16, TensorFlow and JAX export it so. Also taken: d * d for the square, the
deviation computed twice, 1 / sqrt times d, the scale multiplied onto 1 / sqrt, no scale or bias.
Refused, with a note: other than the last axes, an epsilon that is computed, other types than
float32, values that somebody else reads as well. RMS norms and norms over channels in front are
something else. Expected effect: exact to rounding; nine nodes become one, which one kernel runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute, constant
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.cleanup.fuse_pattern import (
    Found,
    Fusion,
    operands,
    produced,
    reader,
    scalar,
)

__all__ = ["FuseLayerNorm"]


class FuseLayerNorm(Fusion):
    name = "fuse-layer-norm"
    summary = "layer normalisation written out becomes one node"
    anchors = frozenset({"Sqrt", "Pow"})
    becomes = "LayerNormalization"

    def match(self, anchor: ir.Node) -> Found | str | None:
        power = 0.5 if anchor.op_type == "Sqrt" else scalar(anchor.inputs[1])
        if power not in (0.5, -0.5):
            return None
        sum_node = produced(anchor.inputs[0], "Add")
        variance = sum_node and next((v for v in sum_node.inputs if _squares(v)), None)
        if variance is None:
            return None
        mean_square, square, deviation = _squares(variance)
        epsilon = scalar(operands(sum_node, variance))
        centre = _deviation(deviation)
        if centre is None:
            return "no mean is taken off, so it is no layer norm (an RMS norm has none)"
        if epsilon is None:
            return "its epsilon is computed"
        x, axes = centre.x, centre.axes
        first = len(x.shape) - len(axes)
        if axes != list(range(first, len(x.shape))) or _axes(mean_square) != axes:
            return f"it normalises axes {axes} of {len(x.shape)}, not the last"
        if x.dtype is not ir.DataType.FLOAT:
            return f"it works in {x.dtype.name.lower()}"
        inner = [anchor, sum_node, mean_square, square, *centre.nodes]
        shape = [int(d) for d in x.shape][first:]
        normal = _normalised(anchor, power, x, axes, shape, inner)
        if normal is None:
            return "the deviation is not divided by it"
        out, scale = normal
        if scale is None:
            out, scale = _constant_step(out, "Mul", shape, inner)
        out, bias = _constant_step(out, "Add", shape, inner)

        if out.shape != x.shape:
            return f"one of its constants makes {list(x.shape)} into {list(out.shape)}"

        def make(build: GraphBuilder) -> ir.Value:
            weights = [_weight(build, scale, shape)]
            weights += [_weight(build, bias, shape)] if bias is not None else []
            return build("LayerNormalization", x, *weights, axis=first, epsilon=float(epsilon))

        return Found(out, inner, make)


@dataclass(frozen=True)
class Deviation:
    x: ir.Value
    axes: list[int]
    nodes: list[ir.Node]


def _squares(value: ir.Value) -> tuple[ir.Node, ir.Node, ir.Value] | None:
    """ReduceMean(d * d) as (mean, square, d)."""
    mean = produced(value, "ReduceMean")
    square = mean and produced(mean.inputs[0], "Pow", "Mul")
    if not square:
        return None
    a, b = square.inputs
    twice = scalar(b) == 2 if square.op_type == "Pow" else a is b
    return (mean, square, a) if twice else None


def _deviation(value: ir.Value) -> Deviation | None:
    """x - ReduceMean(x)."""
    sub = produced(value, "Sub")
    mean = sub and produced(sub.inputs[1], "ReduceMean")
    if not mean or mean.inputs[0] is not sub.inputs[0] or sub.inputs[0].shape is None:
        return None
    axes = _axes(mean)
    return Deviation(sub.inputs[0], axes, [sub, mean]) if axes else None


def _axes(mean: ir.Node) -> list[int]:
    """The axes of a ReduceMean that keeps its dimensions, ascending; [] where it is not plain."""
    given = mean.inputs[1] if len(mean.inputs) > 1 else None
    if given is None or given.const_value is None or not attribute(mean, "keepdims", 1):
        return []
    rank = len(mean.inputs[0].shape)
    return sorted(int(a) % rank for a in constant(mean, 1).reshape(-1))


def _normalised(
    root: ir.Node, power: float, x: ir.Value, axes: list[int], shape: list[int], inner: list
) -> tuple[ir.Value, ir.Value | None] | None:
    """d / root, d * (1 / root) or d * (1 / root * scale) -> (result, scale or None)."""
    value, scale, inverse = root.outputs[0], None, power < 0
    for _ in range(4):
        step = reader(value)
        if step is None:
            return None
        node, position = step
        inner.append(node)
        if node.op_type == "Reciprocal" and not inverse:
            inverse = True
        elif node.op_type == "Div" and position == 1 and not inverse:
            if scalar(node.inputs[0]) != 1:
                return (node.outputs[0], scale) if _same(node.inputs[0], x, axes, inner) else None
            inverse = True
        elif node.op_type == "Mul" and inverse:
            other = operands(node, value)
            if _same(other, x, axes, inner):
                return node.outputs[0], scale
            if scale is not None or _fitting(other, shape) is None:
                return None
            scale = other
        else:
            return None
        value = node.outputs[0]
    return None


def _same(value: ir.Value, x: ir.Value, axes: list[int], inner: list[ir.Node]) -> bool:
    """Whether a value is the deviation of x, be it computed a second time."""
    again = _deviation(value)
    if again is None or again.x is not x or again.axes != axes:
        return False
    inner += [node for node in again.nodes if node not in inner]
    return True


def _constant_step(
    value: ir.Value, op: str, shape: list[int], inner: list[ir.Node]
) -> tuple[ir.Value, ir.Value | None]:
    """One more node on the way, if it is `op` with a constant along the normalised axes."""
    step = reader(value)
    if step is None or step[0].op_type != op:
        return value, None
    other = operands(step[0], value)
    if _fitting(other, shape) is None:
        return value, None
    inner.append(step[0])
    return step[0].outputs[0], other


def _weight(build: GraphBuilder, value: ir.Value | None, shape: list[int]) -> ir.Value:
    """A constant as it is, where it has the shape; else one made from it. None stands for ones."""
    if value is None:
        return build.const(np.ones(shape), np.float32)
    same = list(value.shape) == shape
    return value if same else build.const(_fitting(value, shape), np.float32)


def _fitting(value: ir.Value | None, shape: list[int]) -> np.ndarray | None:
    """A constant in the shape of the normalised axes; None where it lies along others as well."""
    if value is None or value.const_value is None:
        return None
    array = value.const_value.numpy()
    while array.ndim > len(shape) and array.shape[0] == 1:
        array = array[0]
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return None
