"""How many rows of a vision encoder's stream are class and register tokens: those in front.

Concat(class [1,1,D], registers [1,R,D], patches of the picture [1,N,D]) on the row axis: 1 + R
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["special_rows"]


def special_rows(graph: ir.Graph) -> int:
    """0 where no Concat puts rows that no picture changes in front of rows of the picture."""
    moved: set[ir.Value] = set(graph.inputs)
    for node in graph:
        seen = [value in moved for value in node.inputs]
        if not any(seen):
            continue
        moved.update(node.outputs)
        rank = len(node.outputs[0].shape or ())
        rows = node.op_type == "Concat" and rank > 1
        if rows and node.attributes.get_int("axis", 0) % rank == rank - 2 and not all(seen):
            return sum(int(value.shape[-2]) for value in node.inputs[: seen.index(True)])
    return 0
