"""Attention that leans towards tokens about to leave, so that they are read before (PA-Fusion).

    A'_ij = A_ij (1 + gain x [share_ij > least and j among the `nearest` of row i])
    for rows i that stay and tokens j that leave;  share = softmax(A), A the scaled logits

Written as a bias on the logits of an Attention node, gain x A_ij where it applies and 0 elsewhere,
added to the mask there is. It takes the attention of all rows beside the fused node, [heads,L,L],
in each layer it is put on: the one place where a method pays that, and only in front of its site.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevlm.passes.tokens.keys import marked
from edgevlm.passes.tokens.prompt_view import PromptView
from edgevlm.passes.tokens.stream_view import HIDDEN

__all__ = ["fuse"]

MASK = 3  # input of Attention


def fuse(
    view: PromptView, back: int, index: ir.Value, gain: float, least: float, nearest: int
) -> None:
    """Put the bias on the Attention `back` layers in front of the site.

    index: int64 [K], places of the tokens that stay; least: share of a row's attention, 0 to 1.
    """
    build, rows = view.build, view.rows
    seen = view.attention(back)
    logits = view.logits(seen.q, build.const(np.arange(rows)), seen)  # [heads,L,L]
    image = marked(build, build("Add", view.start, build.const(np.arange(view.count))), rows)
    gone = build("Sub", image, marked(build, build("Add", view.start, index), rows))  # [L]
    # of rows that leave no share is left, and of columns that stay: neither takes part
    part = build("Mul", build("Softmax", logits, axis=-1), gone)
    stays = build("Unsqueeze", build("Sub", view.const(1.0), gone), build.const([1]))
    part = build("Mul", part, stays)
    few = min(nearest, view.count - view.keep)
    best = build("TopK", part, build.const([few]), outputs=2, axis=2)[0]
    near = build("GreaterOrEqual", part, build("ReduceMin", best, build.const([2]), keepdims=1))
    applies = build("And", near, build("Greater", part, view.const(least)))
    bias = build("Where", applies, build("Mul", logits, view.const(gain)), view.const(0.0))
    node = view.blocks[view.depth - back].attention
    _add(view, node, build("Unsqueeze", bias, build.const([0])))


def _add(view: PromptView, node: ir.Node, bias: ir.Value) -> None:
    """To the mask of a node; a mask that says what is seen becomes one that is added."""
    build = view.build
    mask = node.inputs[MASK] if len(node.inputs) > MASK else None
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        mask = build("Where", mask, view.const(0.0), view.const(HIDDEN))
    node.resize_inputs(max(len(node.inputs), MASK + 1))
    node.replace_input_with(MASK, bias if mask is None else build("Add", mask, bias))
