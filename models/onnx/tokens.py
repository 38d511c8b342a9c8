"""Which grid of image tokens a graph has, if it is a ViT: by its patches and its attention.

A convolution makes rows x columns patches, and attention works on as many rows and a few more,
which are class and register tokens. Where the two do not fit together (windows, pyramids, no
attention at all) the picture counts as one token, and token reduction refuses the model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["TokenGrid", "token_grid"]

#: class and register tokens in front of the patches; DINOv2 has at most 5
MOST_IN_FRONT = 16


@dataclass(frozen=True)
class TokenGrid:
    """rows x columns patches of `width` channels; `stream` counts the tokens in front as well."""

    rows: int = 1
    columns: int = 1
    stream: int = 1
    width: int = 1


def token_grid(graph: ir.Graph) -> TokenGrid:
    """The grid of a static graph; 1 x 1 where none is plain."""
    rows = Counter(keys for node in graph if (keys := _keys(node)))
    if not rows:
        return TokenGrid()
    stream = rows.most_common(1)[0][0]
    found = TokenGrid()
    for node in graph:
        if _keys(node):
            break
        if node.op_type == "Conv" and len(node.outputs[0].shape) == 4:
            _, channels, high, wide = (int(d) for d in node.outputs[0].shape)
            if 0 <= stream - high * wide <= MOST_IN_FRONT:
                found = TokenGrid(high, wide, stream, channels)
    return found


def _keys(node: ir.Node) -> int:
    """Over how many rows a node attends; 0 where it does not."""
    if node.op_type == "Attention":
        return int(node.inputs[1].shape[-2])
    if node.op_type == "Softmax" and len(node.outputs[0].shape) >= 3:
        rank = len(node.outputs[0].shape)
        if node.attributes.get_int("axis", -1) % rank == rank - 1:
            return int(node.outputs[0].shape[-1])
    return 0
