"""MatMul, Gemm, Conv: two inputs share an axis that vanishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import fresh_term, label, pin, size_of
from edgevlm.compiler.axes.equations import unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, meet, who, windows

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def matmul(found: Analysis, node: ir.Node) -> list[Dims]:
    """[..., M, K] x [..., K, N] -> [..., M, N]; vectors lose their dimension as in numpy."""
    a, b = found.input(node, 0), found.input(node, 1)
    unify(a[-1], b[-2] if len(b) > 1 else b[0], who(node))
    lead = meet(node, [a[:-2], b[:-2]]) if max(len(a), len(b)) > 2 else []
    rows = [a[-2]] if len(a) > 1 else []
    columns = [b[-1]] if len(b) > 1 else []
    return [lead + rows + columns]


def gemm(found: Analysis, node: ir.Node) -> list[Dims]:
    a, b = list(found.input(node, 0)), list(found.input(node, 1))
    a = a[::-1] if attribute(node, "transA", 0) else a
    b = b[::-1] if attribute(node, "transB", 0) else b
    unify(a[1], b[0], who(node))
    out = [a[0], b[1]]
    bias = found.input(node, 2)
    return [meet(node, [out, bias]) if bias is not None else out]


def conv(found: Analysis, node: ir.Node) -> list[Dims]:
    """Output channels come from the weight; spatial axes behind a window are new, or patches."""
    x, w = found.input(node, 0), found.input(node, 1)
    group, name = attribute(node, "group", 1), who(node)
    if group == 1:
        unify(x[1], w[1], name)
    elif group == size_of(x[1]):  # depthwise: one filter a channel, times a multiplier
        unify(w[0], (*x[1], *fresh_term(size_of(w[0]) // group, name)), name)
        found.derive_attribute(node, "group", lambda: size_of(x[1]))
    else:
        for term in (x[1], w[0], w[1]):
            pin(term, name, f"it is a convolution in {group} groups")
    _kernel(node, w[2:])
    label(w[0], "channel")
    bias = found.input(node, 2)
    if bias is not None:
        unify(w[0], bias[0], name)
    for term in x[2:]:
        label(term, "pixel")
    kernel = [size_of(term) for term in w[2:]]
    return [[x[0], w[0], *windows(node, x[2:], kernel, w[2:])]]


def conv_transpose(found: Analysis, node: ir.Node) -> list[Dims]:
    x, w = found.input(node, 0), found.input(node, 1)
    group, name = attribute(node, "group", 1), who(node)
    if group == 1:
        unify(x[1], w[0], name)
        channels = w[1]
    else:
        for term in (x[1], w[0], w[1]):
            pin(term, name, f"it is a transposed convolution in {group} groups")
        channels = fresh_term(group * size_of(w[1]), name)
        pin(channels, name, f"it is a transposed convolution in {group} groups")
    _kernel(node, w[2:])
    label(channels, "channel")
    bias = found.input(node, 2)
    if bias is not None:
        unify(channels, bias[0], name)
    for term in x[2:]:
        label(term, "pixel")
    return [[x[0], channels, *windows(node, x[2:], [size_of(term) for term in w[2:]])]]


def _kernel(node: ir.Node, window: Dims) -> None:
    for term in window:
        pin(term, who(node), "it is the window of a convolution")


RULES: dict[str, Rule] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
}
