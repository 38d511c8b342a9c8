"""Ops that a release does not know, written out in those that it knows.

One file an op; `spell_out` puts them to a part, given which ops are lacking. Attention is written
out by compiler/attention.py, as for other targets.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.runtimes.tensorrt.spell_out.rms_norm import rms_norm
from edgevlm.runtimes.tensorrt.spell_out.rotary import rotary
from edgevlm.runtimes.tensorrt.spell_out.swish import swish

__all__ = ["WRITTEN_OUT", "spell_out"]

WRITTEN_OUT: dict[str, Callable[[GraphBuilder, ir.Node], ir.Value]] = {
    "RMSNormalization": rms_norm,
    "RotaryEmbedding": rotary,
    "Swish": swish,
}


def spell_out(part: ir.Model, lacks: frozenset[str]) -> ir.Model:
    """A copy of the part, or the part itself where it has none of those ops."""
    wanted = WRITTEN_OUT.keys() & lacks
    if not any(node.op_type in wanted for node in part.graph):
        return part
    part = part.clone()
    build = GraphBuilder(part, "spelled")
    for node in list(part.graph):
        if node.op_type in wanted:
            new = WRITTEN_OUT[node.op_type](build, node)
            build.take_over(node.outputs[0], new, [node])
    build.finish()
    return part
