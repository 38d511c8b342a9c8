"""A part as it would be if nothing it computes were rounded; stored weights stay as they are.

    x -> QuantizeLinear -> DequantizeLinear -> MatMul        x -> MatMul

A rewrite that keeps the function moves sums in the last place, and a number between two codes then
falls to either side: 70 dB for one number of 65 x 128. Without rounding the two forms must agree as
closely as any (verify.py), which a wrong rewrite does not.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.quantised import is_port, is_rounded, unrounded

__all__ = ["without_rounding"]


def without_rounding(part: ir.Model) -> ir.Model:
    """A copy; what callers see rounded stays so."""
    part = part.clone()
    rounded = [n.outputs[0] for n in part.graph if n.outputs and is_rounded(n.outputs[0])]
    for value in rounded:
        pair = [value.producer(), value.producer().inputs[0].producer()]
        if any(is_port(node.outputs[0]) for node in pair):
            continue
        ir.convenience.replace_all_uses_with(value, unrounded(value))
        for node in pair:
            if not node.outputs[0].uses():
                part.graph.remove(node, safe=True)
    return part
