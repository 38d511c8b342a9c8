"""The table of what every op does to axes. An op that is not here stops the analysis.

A rule takes (analysis, node) and returns the terms of each output. The families:

    elementwise   dimensions that meet are the same axis
    contraction   MatMul, Gemm, Conv: two inputs share an axis that vanishes
    einsum        the same, spelled out in letters
    layout        Reshape, Transpose, Concat...: axes are factored, permuted, joined
    section       Slice, Split: axes are cut
    gather        Gather, Scatter, OneHot: elements are picked or written by index
    reduce        reductions, TopK, ArgMax, normalisations
    attention     Attention, RotaryEmbedding: the ops that name head, head_dim, token and kv
    spatial       pooling, resizing, padding, depth-to-space
"""

from __future__ import annotations

from edgevlm.compiler.axes.rules import (
    attention,
    contraction,
    einsum,
    elementwise,
    gather,
    layout,
    reduce,
    section,
    spatial,
)
from edgevlm.compiler.axes.rules.common import Rule

__all__ = ["RULES"]

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **contraction.RULES,
    **einsum.RULES,
    **layout.RULES,
    **section.RULES,
    **gather.RULES,
    **reduce.RULES,
    **attention.RULES,
    **spatial.RULES,
}
