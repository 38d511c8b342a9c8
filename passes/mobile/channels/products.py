"""MatMul and Gemm with a stored matrix [K,N] -> a convolution with the kernel [N,K,1,1].

Integers stay integers with their scales along the same channels or blocks, indices stay indices.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import attribute
from edgevlm.compiler.palettes import find_palette, write_palette
from edgevlm.passes.mobile.channels.walk import Line, Walk, tokens_of
from edgevlm.passes.mobile.columns import is_stored
from edgevlm.passes.mobile.moves import known_shape

__all__ = ["RULES"]


def product(walk: Walk, node: ir.Node) -> Line | None:
    x, matrix, *bias = node.inputs
    plain = node.op_type == "MatMul" or (
        not attribute(node, "transA", 0)
        and attribute(node, "alpha", 1.0) == 1
        and attribute(node, "beta", 1.0) == 1
        and all(v is None or (v.is_initializer() and len(v.shape) == 1) for v in bias)
    )
    if not plain or tokens_of(node.outputs[0]) is None or not known_shape(matrix):
        return None
    turned = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    width = node.outputs[0].shape[-1]
    if any(v is not None and list(v.shape) != [width] for v in bias):
        return None  # one number for all
    if len(matrix.shape) != 2 or (kernel := _kernel(walk, matrix, turned)) is None:
        return None
    if (line := walk.turn(x)) is None:
        return None
    new = walk.build("Conv", line.value, kernel, *bias, kernel_shape=[1, 1])
    new.producer().metadata_props.update(node.metadata_props)
    new.shape, new.dtype = ir.Shape([1, kernel.shape[0], 1, line.count]), x.dtype
    return Line(new)


def _kernel(walk: Walk, matrix: ir.Value, turned: bool) -> ir.Value | None:
    """turned: the matrix is [N,K] already."""
    if (matrix, turned) not in walk.kernels:
        made = _made(walk, matrix, turned)
        if made is None:
            return None
        rows, columns = (int(d) for d in matrix.shape)
        made.shape = ir.Shape([*((rows, columns) if turned else (columns, rows)), 1, 1])
        made.dtype = matrix.dtype
        walk.kernels[matrix, turned] = made
    return walk.kernels[matrix, turned]


def _made(walk: Walk, matrix: ir.Value, turned: bool) -> ir.Value | None:
    maker = matrix.producer()
    if maker is None:
        return _laid(walk, matrix, turned) if is_stored(matrix) else None
    if (palette := find_palette(maker)) is not None:
        indices = _kernel_of(palette.indices.const_value.numpy(), turned)
        axis = palette.axis if turned else 1 - palette.axis
        made = write_palette(walk.build, indices, palette.tables, axis, indices.dtype)
    elif is_stored(matrix):
        codes, *scales = maker.inputs
        attributes = {name: a.value for name, a in maker.attributes.items()}
        if any(v is not None and len(v.shape) for v in scales):
            axis = attribute(maker, "axis", 1) % 2
            attributes["axis"] = axis if turned else 1 - axis
        laid = [v if v is None or len(v.shape) < 2 else _laid(walk, v, turned) for v in scales]
        made = walk.build("DequantizeLinear", _laid(walk, codes, turned), *laid, **attributes)
    else:
        return None
    made.producer().metadata_props.update(maker.metadata_props)
    return made


def _laid(walk: Walk, value: ir.Value, turned: bool) -> ir.Value:
    array = _kernel_of(value.const_value.numpy(), turned)
    return walk.build.const(array, array.dtype)


def _kernel_of(matrix: np.ndarray, turned: bool) -> np.ndarray:
    rows = matrix if turned else matrix.T
    return np.ascontiguousarray(rows)[:, :, None, None]


RULES = dict.fromkeys(("MatMul", "Gemm"), product)
