"""Make ONNX Runtime's CPU round what a graph says is float16.

    before: Cast -> Add -> Mul       its kernels are float32, and casts between them cancel out
    after:  Cast -> Identity -> Identity -> Add -> Identity -> Identity -> Mul

It has few float16 kernels, puts casts round all other nodes and removes pairs of them, also with
its optimiser off: numbers above 65504 pass then, and no digit is lost. Identity has a kernel of
float16, which it takes where two stand in a row; one alone between casts becomes float32 as well.
"""

from __future__ import annotations

from collections.abc import Set
from itertools import pairwise
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

__all__ = ["halves_of", "round_halves"]


def halves_of(part: ir.Model) -> set[str]:
    """Names of what its nodes make in float16."""
    made = (v for node in part.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT16)
    return {str(v.name) for v in made}


def round_halves(model: onnx.ModelProto, names: Set[str]) -> None:
    """Edits the model: these values go through Identities as soon as they are made."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        made = model.graph.node[-1]
        for i, name in enumerate(node.output):
            if name in names:
                made.output[i] = f"{name}/unrounded"
                steps = (made.output[i], f"{name}/rounded", name)
                for step, pair in enumerate(pairwise(steps)):
                    model.graph.node.add(
                        op_type="Identity",
                        name=f"{name}/round_{step}",
                        input=pair[:1],
                        output=pair[1:],
                    )
