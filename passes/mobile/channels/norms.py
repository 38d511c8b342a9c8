"""LayerNormalization and RMSNormalization over channels, with nothing above 1 squared.

    d = x - mean(x)   m = max(|d|, 2^-14)   r = d / m   y = r / sqrt(mean(r^2) + (sqrt(eps) / m)^2)

The same number, since both sides of the root are divided by m^2; RMSNormalization has d = x. The
squares of a stream of a language model (thousands) are no float16, and the Neural Engine has no
other; 2^-14 is float16's least normal number.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.passes.mobile.channels.walk import Line, Walk

__all__ = ["RULES"]

LEAST = 2.0**-14


def norm(walk: Walk, node: ir.Node) -> Line | None:
    """Of tokens, or of each head (as of queries and keys)."""
    x, *affine = node.inputs
    line = walk.lines.get(x)
    last = attribute(node, "axis", -1) in (-1, len(x.shape) - 1)
    if line is None or line.form == "split" or not last or x.dtype != ir.DataType.FLOAT:
        return None
    by_head = line.form == "heads"
    width = line.channels // line.heads if by_head else line.channels
    stored = (v.is_initializer() and list(v.shape) == [width] for v in affine if v is not None)
    if not all(stored):
        return None
    shape = [1, line.heads, width, line.count] if by_head else [1, width, 1, line.count]
    y = _normalised(walk, node, walk.reshape(line.value, shape), 2 if by_head else 1)
    for op, value in zip(("Mul", "Add"), affine, strict=False):
        if value is not None:
            along = [1, 1, width, 1] if by_head else [1, width, 1, 1]
            y = walk.made(op, y, _const(walk, value.const_value.numpy().reshape(along)))
    return dataclasses.replace(line, value=walk.reshape(y, [1, line.channels, 1, line.count]))


def _normalised(walk: Walk, node: ir.Node, x: ir.Value, axis: int) -> ir.Value:
    if node.op_type == "LayerNormalization":
        x = walk.made("Sub", x, _over(walk, "ReduceMean", x, axis))
    most = _over(walk, "ReduceMax", walk.made("Abs", x), axis)
    most = walk.made("Max", most, _const(walk, LEAST))
    r = walk.made("Div", x, most)
    square = _over(walk, "ReduceMean", walk.made("Mul", r, r), axis)
    rest = walk.made("Div", _const(walk, np.sqrt(attribute(node, "epsilon", 1e-5))), most)
    root = walk.made("Sqrt", walk.made("Add", square, walk.made("Mul", rest, rest)))
    return walk.made("Div", r, root)


def _over(walk: Walk, op: str, x: ir.Value, axis: int) -> ir.Value:
    new = walk.build(op, x, walk.build.const([axis]), keepdims=1)
    new.shape = ir.Shape([1 if i == axis else d for i, d in enumerate(x.shape)])
    new.dtype = x.dtype
    return new


def _const(walk: Walk, array: object) -> ir.Value:
    return walk.build.const(array, np.float32)


RULES = dict.fromkeys(("LayerNormalization", "RMSNormalization"), norm)
