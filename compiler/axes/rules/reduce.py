"""Ops that fold an axis away or normalise along it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import fresh_term, label, pin, size_of
from edgevlm.compiler.axes.equations import unify
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    normal_axis,
    sizes,
    who,
)

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]

REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


def reduction(found: Analysis, node: ir.Node) -> list[Dims]:
    """Axes come as an input (opset 18 and later) or as an attribute (before)."""
    x = found.input(node, 0)
    given = constant(node, 1)
    axes = given.reshape(-1).tolist() if given is not None else attribute(node, "axes")
    if not axes:
        axes = [] if attribute(node, "noop_with_empty_axes", 0) else list(range(len(x)))
    gone = {normal_axis(int(a), len(x)) for a in axes}
    return [_without(x, gone, bool(attribute(node, "keepdims", 1)))]


def arg(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    gone = {normal_axis(attribute(node, "axis", 0), len(x))}
    return [_without(x, gone, bool(attribute(node, "keepdims", 1)))]


def _without(x: Dims, gone: set[int], keep: bool) -> Dims:
    if keep:
        return [() if i in gone else t for i, t in enumerate(x)]
    return [t for i, t in enumerate(x) if i not in gone]


def top_k(found: Analysis, node: ir.Node) -> list[Dims]:
    """The k best are a new axis, whose size is k."""
    x, k = list(found.input(node, 0)), constant(node, 1)
    axis = normal_axis(attribute(node, "axis", -1), len(x))
    whole, best = x[axis], fresh_term(int(k.reshape(())), who(node))
    x[axis] = best
    found.derive(node, 1, lambda: sizes([best]).reshape(k.shape))

    def why() -> str | None:
        if size_of(best) <= size_of(whole):
            return None
        return f"it would pick {size_of(best)} of {size_of(whole)} elements"

    found.limit(node, why)
    return [x, list(x)]


def softmax(found: Analysis, node: ir.Node) -> list[Dims]:
    return [list(found.input(node, 0))]


def normalisation(found: Analysis, node: ir.Node) -> list[Dims]:
    """LayerNormalization and RMSNormalization: scale and bias lie along the normalised axes."""
    x = found.input(node, 0)
    axis = normal_axis(attribute(node, "axis", -1), len(x))
    for position in (1, 2):
        weights = found.input(node, position)
        for a, b in zip(x[axis:][::-1], (weights or [])[::-1], strict=False):
            if b:
                unify(a, b, who(node))
    label(x[-1], "channel")
    statistics = [t if i < axis else () for i, t in enumerate(x)]
    return [list(x)] + [statistics for _ in node.outputs[1:]]


def group_normalisation(found: Analysis, node: ir.Node) -> list[Dims]:
    """Groups are runs of neighbouring channels, so channels cannot be removed one by one."""
    x = found.input(node, 0)
    for position in (1, 2):
        unify(x[1], found.input(node, position)[0], who(node))
    label(x[1], "channel")
    if node.op_type == "GroupNormalization":
        pin(x[1], who(node), "it normalises groups of it")
    return [list(x)]


def local_response(found: Analysis, node: ir.Node) -> list[Dims]:
    """LRN divides a channel by its neighbours, so none can be taken out from between them."""
    x = found.input(node, 0)
    label(x[1], "channel")
    pin(x[1], who(node), "each of them is divided by its neighbours")
    return [list(x)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    "ArgMax": arg,
    "ArgMin": arg,
    "TopK": top_k,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Hardmax": softmax,
    "LpNormalization": softmax,
    "LayerNormalization": normalisation,
    "RMSNormalization": normalisation,
    "GroupNormalization": group_normalisation,
    "InstanceNormalization": group_normalisation,
    "LRN": local_response,
}
