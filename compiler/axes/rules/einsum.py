"""Einsum: a letter is an axis, wherever it stands; one that the result lacks vanishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, size_of
from edgevlm.compiler.axes.equations import unify
from edgevlm.compiler.axes.rules.common import Rule, attribute, inputs, who

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES"]


def einsum(found: Analysis, node: ir.Node) -> list[Dims]:
    """`bhqd,bhkd->bhqk`; without an arrow the result has every letter that occurs once, sorted."""
    equation, name = attribute(node, "equation").replace(" ", ""), who(node)
    if "." in equation:
        raise fail(name, f"Einsum {equation!r} has an ellipsis; write its axes out as letters")
    left, arrow, right = equation.partition("->")
    if not arrow:
        right = "".join(sorted(c for c in set(left) if c != "," and left.count(c) == 1))
    axes: dict[str, Term] = {}
    operands = inputs(found, node)
    for letters, dims in zip(left.split(","), operands, strict=True):
        for letter, term in zip(letters, dims, strict=True):
            known = axes.get(letter, ())
            if size_of(known) > 1 and size_of(term) > 1:  # one of 1 stretches, as in numpy
                unify(known, term, name)
            axes[letter] = known if size_of(known) > 1 else term
    return [[axes[letter] for letter in right]]


RULES: dict[str, Rule] = {"Einsum": einsum}
