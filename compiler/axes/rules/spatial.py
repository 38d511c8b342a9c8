"""Ops over image grids: windows make new axes, depth-to-space only regroups old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, concatenate, expand, fail
from edgevlm.compiler.axes.rules.common import Rule, attribute, constant, normal_axis
from edgevlm.compiler.axes.rules.layout import regroup

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def pool(found: Analysis, node: ir.Node) -> list[Dims]:
    return [_windowed(found, node) for _ in node.outputs]


def _windowed(found: Analysis, node: ir.Node) -> Dims:
    x = found.input(node, 0)
    out = x[:2]
    for term, size in zip(x[2:], list(node.outputs[0].shape)[2:], strict=True):
        for atom in expand(term):
            atom.pinned = f"{node.name} slides a window over it"
        out.append(() if size == 1 else (Axis(int(size), str(node.name)),))
    return out


def global_pool(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    return [[*x[:2], *[() for _ in x[2:]]]]


def resize(found: Analysis, node: ir.Node) -> list[Dims]:
    """An interpolated axis is new; the others pass. Cubic and linear weights pin what they read."""
    x, name = found.input(node, 0), str(node.name)
    out: Dims = []
    for term, size in zip(x, list(node.outputs[0].shape), strict=True):
        total = 1
        for atom in expand(term):
            total *= atom.size
        if int(size) == total:
            out.append(term)
            continue
        for atom in expand(term):
            atom.pinned = f"{name} interpolates along it"
        out.append((Axis(int(size), name),))
    return [out]


def pad(found: Analysis, node: ir.Node) -> list[Dims]:
    """Padding is a concatenation: (before, x, after)."""
    x, pads, name = list(found.input(node, 0)), constant(node, 1).tolist(), str(node.name)
    if any(p < 0 for p in pads):
        raise fail(name, "negative padding cuts an axis; write it as a Slice")
    axes = constant(node, 3)
    axes = range(len(x)) if axes is None else [normal_axis(int(a), len(x)) for a in axes]
    half = len(pads) // 2
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        if before or after:
            parts = [(Axis(n, name),) if n > 1 else () for n in (before, after) if n]
            middle = 1 if before else 0
            x[axis] = concatenate([*parts[:middle], x[axis], *parts[middle:]], name)
    return [x]


def space_to_depth(found: Analysis, node: ir.Node) -> list[Dims]:
    b, c, h, w = found.input(node, 0)
    block = attribute(node, "blocksize")
    (h1, h2), (w1, w2) = (_cut(t, block, node) for t in (h, w))
    return [[b, (*h2, *w2, *c), h1, w1]]


def depth_to_space(found: Analysis, node: ir.Node) -> list[Dims]:
    b, c, h, w = found.input(node, 0)
    block = attribute(node, "blocksize")
    total = 1
    for atom in expand(c):
        total *= atom.size
    if attribute(node, "mode", "DCR") == "DCR":
        b1, b2, depth = regroup([c], [block, block, total // block**2], node)
    else:
        depth, b1, b2 = regroup([c], [total // block**2, block, block], node)
    return [[b, depth, (*h, *b1), (*w, *b2)]]


def _cut(term: tuple[Axis, ...], block: int, node: ir.Node) -> Dims:
    total = 1
    for atom in expand(term):
        total *= atom.size
    return regroup([term], [total // block, block], node)


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
