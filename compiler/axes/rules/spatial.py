"""Ops over image grids: windows make new axes, depth-to-space only regroups old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, fresh_term, pin, size_of
from edgevlm.compiler.axes.equations import concatenate
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    normal_axis,
    sizes,
    static_shape,
    who,
    windows,
)
from edgevlm.compiler.axes.rules.layout import regroup

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def pool(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    out = [*x[:2], *windows(node, x[2:], attribute(node, "kernel_shape"))]
    return [list(out) for _ in node.outputs]


def global_pool(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    return [[*x[:2], *[() for _ in x[2:]]]]


def resize(found: Analysis, node: ir.Node) -> list[Dims]:
    """An interpolated axis is new and both are pinned: its weights are made for their sizes."""
    x, name = found.input(node, 0), who(node)
    out: Dims = []
    for term, size in zip(x, static_shape(node.outputs[0]), strict=True):
        if size != size_of(term):
            pin(term, name, "it interpolates along it")
            term = fresh_term(size, name)
            pin(term, name, "it interpolates along it")
        out.append(term)
    if constant(node, 3) is not None:
        axes = attribute(node, "axes") or range(len(x))
        found.derive(node, 3, lambda: sizes([out[normal_axis(a, len(x))] for a in axes]))
    return [out]


def pad(found: Analysis, node: ir.Node) -> list[Dims]:
    """Padding is a concatenation: (before, x, after). What mirrors the edge needs the edge."""
    x, pads, name = list(found.input(node, 0)), constant(node, 1), who(node)
    if (pads < 0).any():
        raise fail(name, "negative padding cuts an axis; write it as a Slice")
    axes = constant(node, 3)
    axes = range(len(x)) if axes is None else [normal_axis(int(a), len(x)) for a in axes]
    half = len(pads) // 2
    edges: list[list[Term | None]] = [[None] * half, [None] * half]
    for i, axis in enumerate(axes):
        inside = x[axis]
        for side, row in enumerate(edges):
            if pads[i + side * half]:
                row[i] = fresh_term(int(pads[i + side * half]), name)
        before, after = edges[0][i], edges[1][i]
        x[axis] = concatenate([t for t in (before, inside, after) if t is not None], name)
        if x[axis] is not inside and attribute(node, "mode", "constant") != "constant":
            pin(inside, name, "it repeats elements of it")
    found.derive(
        node,
        1,
        lambda: np.array([0 if t is None else size_of(t) for t in edges[0] + edges[1]], np.int64),
    )
    return [x]


def space_to_depth(found: Analysis, node: ir.Node) -> list[Dims]:
    b, c, h, w = found.input(node, 0)
    block = attribute(node, "blocksize")
    (h1, h2), (w1, w2) = (regroup([t], [size_of(t) // block, block], node) for t in (h, w))
    _pin_blocks(node, h2, w2)
    return [[b, (*h2, *w2, *c), h1, w1]]


def depth_to_space(found: Analysis, node: ir.Node) -> list[Dims]:
    b, c, h, w = found.input(node, 0)
    block = attribute(node, "blocksize")
    depth = size_of(c) // block**2
    if attribute(node, "mode", "DCR") == "DCR":
        b1, b2, channels = regroup([c], [block, block, depth], node)
    else:
        channels, b1, b2 = regroup([c], [depth, block, block], node)
    _pin_blocks(node, b1, b2)
    return [[b, channels, (*h, *b1), (*w, *b2)]]


def _pin_blocks(node: ir.Node, *blocks: Term) -> None:
    for term in blocks:
        pin(term, who(node), "it is a block of pixels")


RULES: dict[str, Rule] = {
    "AveragePool": pool,
    "MaxPool": pool,
    "LpPool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Resize": resize,
    "Pad": pad,
    "SpaceToDepth": space_to_depth,
    "DepthToSpace": depth_to_space,
}
