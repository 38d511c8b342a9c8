"""Ops that a release does not know, or not in this form, written out in those that it knows.

One file an op; `spell_out` puts them to a part, given which ops are lacking. Most attention is
written out by compiler/attention.py, as for other targets.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.masked_attention import masked_attention
from edgevlm.runtimes.tensorrt.spell_out.flat import WIDENED, widened
from edgevlm.runtimes.tensorrt.spell_out.rms_norm import rms_norm
from edgevlm.runtimes.tensorrt.spell_out.rotary import rotary
from edgevlm.runtimes.tensorrt.spell_out.swish import swish

__all__ = ["WRITTEN_OUT", "spell_out"]

Written = Callable[[GraphBuilder, ir.Node], ir.Value | None]
WRITTEN_OUT: dict[str, Written] = {
    "Attention": masked_attention,
    "RMSNormalization": rms_norm,
    "RotaryEmbedding": rotary,
    "Swish": swish,
}


def spell_out(part: ir.Model, lacks: frozenset[str]) -> ir.Model:
    """A copy of the part, or the part itself where all of it is known."""
    if not any(_how(node, lacks) for node in part.graph):
        return part
    part = part.clone()
    build = GraphBuilder(part, "spelled")
    for node in list(part.graph):
        if (how := _how(node, lacks)) and (new := how(build, node)) is not None:
            build.take_over(node.outputs[0], new, [node])
    build.finish()
    return part


def _how(node: ir.Node, lacks: frozenset[str]) -> Written | None:
    if node.op_type in WIDENED and node.inputs[0].shape is not None:
        return widened if len(node.inputs[0].shape) == 1 else None
    return WRITTEN_OUT.get(node.op_type) if node.op_type in lacks else None
