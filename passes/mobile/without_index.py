"""What each op that chooses by index becomes without one; the table is `HANDLED`."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevlm.passes.mobile.choose_found import arg_best, top_k
from edgevlm.passes.mobile.choose_given import (
    gather,
    gather_elements,
    gather_nd,
    one_hot,
    scatter_elements,
    scatter_nd,
)
from edgevlm.passes.mobile.choosing import Limits, Refused
from edgevlm.passes.mobile.hot import Hot
from edgevlm.passes.mobile.moves import known_shape

__all__ = ["HANDLED", "RANKS", "rewritten"]

RANKS = frozenset({"TopK", "ArgMax", "ArgMin"})
HANDLED: dict[str, Callable[[Hot, ir.Node, Limits], int]] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "OneHot": one_hot,
    "TopK": top_k,
    "ArgMax": arg_best,
    "ArgMin": arg_best,
}


def rewritten(hot: Hot, node: ir.Node, limits: Limits) -> int:
    """How many places it chose from; 0 for a node that chooses none. Raises Refused."""
    rule = HANDLED.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None or (node.op_type in RANKS and not limits.topk):
        return 0
    values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.name]
    if not all(map(known_shape, values)):
        raise Refused("a shape is not known, or empty")
    if all(v is None or v.const_value is not None for v in node.inputs):
        return 0  # folding is another pass
    return rule(hot, node, limits)
