"""Proportional attention: a merged token counts as a key for as many tokens as it stands for.

    before: Attention(q, k, v)           softmax(q k^T)
    after:  Attention(q, k, v, bias)     softmax(q k^T + log(size_j))     rows of one size each: 0

If the members of a merged token have the same key and value, this is exactly the attention they
would have had one by one (ToMe, arXiv 2210.09461). The bias is [1,1,1,L], stretched to as many
query rows as there are, because ONNX Runtime wants those stated. A later site finds the sizes again
by what made the mask: a logarithm, stretched and gathered. Attention with a mask of its own
(windows, padding) is refused, since whom it hides is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault

__all__ = ["lean", "leans", "sizes_told"]

MASK = 3  # input of Attention
#: what may stand between the logarithm and the mask: none of it changes a number
ALONG = frozenset({"Expand", "Gather", "Identity", "Reshape"})


def leans(node: ir.Node) -> bool:
    """Whether an Attention node has the bias of sizes, and no mask of its own."""
    mask = _mask(node)
    return mask is not None and _is_bias(mask)


def sizes_told(build: GraphBuilder, node: ir.Node) -> ir.Value | None:
    """float32 [L]: how many tokens each key row stands for; None where nothing was merged."""
    mask = _mask(node)
    if mask is None or not _is_bias(mask):
        return None
    row = build("Slice", mask, *(build.const([n]) for n in (0, 1, 2)))
    flat = build("Reshape", row, build.const([int(mask.shape[-1])]))
    return build("Round", build("Exp", flat))  # they are counts, so no rounding adds up


def lean(build: GraphBuilder, nodes: Iterable[ir.Node], sizes: ir.Value, rows: int) -> None:
    """Give Attention nodes the bias of sizes (float32 [L]); an earlier one is replaced.

    Raises EV230 naming a node whose attention has a mask of its own.
    """
    log = build("Reshape", build("Log", sizes), build.const([1, 1, 1, rows]))
    stretched: dict[int, ir.Value] = {}
    for node in nodes:
        mask, queries = _mask(node), int(node.inputs[0].shape[-2])
        if mask is not None and not _is_bias(mask):
            raise UsageFault(
                "EV230",
                f"merging tokens in front of {node.name}",
                "its attention has a mask of its own (windows or padding), so how a merged token "
                "counts there is not known",
                "edgevlm compile ... --prune with a method that drops tokens, such as dart",
            )
        if queries not in stretched:
            shape = build.const(np.array([1, 1, queries, rows]))
            stretched[queries] = build("Expand", log, shape)
        node.resize_inputs(max(len(node.inputs), MASK + 1))
        node.replace_input_with(MASK, stretched[queries])


def _mask(node: ir.Node) -> ir.Value | None:
    return node.inputs[MASK] if len(node.inputs) > MASK else None


def _is_bias(mask: ir.Value) -> bool:
    node = mask.producer()
    while node is not None and node.op_type in ALONG:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Log"
