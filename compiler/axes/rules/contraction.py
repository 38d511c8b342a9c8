"""MatMul, Gemm, Conv, Einsum-free contractions: two inputs share an axis that vanishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, Term, label, size_of, unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, meet

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def matmul(found: Analysis, node: ir.Node) -> list[Dims]:
    """[..., M, K] x [..., K, N] -> [..., M, N]; vectors lose their dimension as in numpy."""
    a, b = found.input(node, 0), found.input(node, 1)
    unify(a[-1], b[-2] if len(b) > 1 else b[0], str(node.name))
    lead = meet(node, [a[:-2], b[:-2]]) if max(len(a), len(b)) > 2 else []
    rows = [a[-2]] if len(a) > 1 else []
    columns = [b[-1]] if len(b) > 1 else []
    return [lead + rows + columns]


def gemm(found: Analysis, node: ir.Node) -> list[Dims]:
    a, b = list(found.input(node, 0)), list(found.input(node, 1))
    a = a[::-1] if attribute(node, "transA", 0) else a
    b = b[::-1] if attribute(node, "transB", 0) else b
    unify(a[1], b[0], str(node.name))
    out = [a[0], b[1]]
    bias = found.input(node, 2)
    return [meet(node, [out, bias]) if bias is not None else out]


def conv(found: Analysis, node: ir.Node) -> list[Dims]:
    """Output channels come from the weight; spatial axes are new (a window is not an axis)."""
    x, w = found.input(node, 0), found.input(node, 1)
    group, name = attribute(node, "group", 1), str(node.name)
    if group == 1:
        unify(x[1], w[1], name)
        channels = w[0]
    elif group == size_of(x[1]):  # depthwise: one filter a channel, times a multiplier
        multiplier = size_of(w[0]) // group
        unify(w[0], x[1] if multiplier == 1 else (*x[1], Axis(multiplier, name)), name)
        channels = w[0]
    else:
        for term in (x[1], w[0]):
            for axis in term:
                axis.root.pinned = f"{name} is a grouped convolution ({group} groups)"
        channels = w[0]
    label(channels, "channel")
    bias = found.input(node, 2)
    if bias is not None:
        unify(channels, bias[0], name)
    return [[x[0], channels, *_windows(node, x[2:])]]


def conv_transpose(found: Analysis, node: ir.Node) -> list[Dims]:
    x, w = found.input(node, 0), found.input(node, 1)
    name = str(node.name)
    if attribute(node, "group", 1) != 1:
        for axis in (*x[1], *w[1]):
            axis.root.pinned = f"{name} is a grouped transposed convolution"
    else:
        unify(x[1], w[0], name)
    bias = found.input(node, 2)
    if bias is not None:
        unify(w[1], bias[0], name)
    return [[x[0], w[1], *_windows(node, x[2:])]]


def _windows(node: ir.Node, inside: list[Term]) -> list[Term]:
    """New spatial axes of the output; the input's must keep their size from now on."""
    out: list[Term] = []
    for term, size in zip(inside, list(node.outputs[0].shape)[2:], strict=True):
        for axis in term:
            axis.root.pinned = f"{node.name} slides a window over it"
        label(term, "pixel")
        out.append(() if size == 1 else (Axis(int(size), str(node.name)),))
    return out


RULES: dict[str, Rule] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
}
