"""The walk: give every dimension of every value its term, and remember what depends on sizes.

`analyse(graph)` visits each node once, in order, and calls the rule of its op (`rules/`). A rule
unifies terms, returns those of the outputs and, where the op reads a size from a constant or an
attribute (the shape of a Reshape, the k of a TopK, the head count of an Attention), registers how
that follows from the terms. `resize.py` uses exactly that record, so a structural pass never
touches a shape by hand.

Initializers get fresh axes at every *use*: two layers that happen to share a vector of ones are not
thereby the same axis; when only one of them is cut, it gets its own copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, fresh_term, label, size_of
from edgevlm.compiler.axes.naming import name_of, name_the_rest
from edgevlm.compiler.axes.rules import RULES
from edgevlm.compiler.axes.rules.common import is_constant, static_shape, who
from edgevlm.compiler.errors import JobFault

__all__ = ["Analysis", "Dims", "Signature", "analyse"]

Dims = list[Term]
#: names of the dimensions of graph inputs and outputs, by value name: {"pixel_values": (...)}
Signature = dict[str, tuple[str | None, ...]]


@dataclass
class Analysis:
    """What is known of one graph. `terms[value]` has one term a dimension."""

    graph: ir.Graph
    terms: dict[ir.Value, Dims] = field(default_factory=dict)
    #: (node, input position) -> terms of the initializer as used there
    weights: dict[tuple[ir.Node, int], Dims] = field(default_factory=dict)
    #: (node, input position) -> the constant as it follows from the current sizes
    constants: dict[tuple[ir.Node, int], Callable[[], np.ndarray]] = field(default_factory=dict)
    #: (node, name) -> the attribute as it follows from the current sizes; None where it is absent
    attributes: dict[tuple[ir.Node, str], Callable[[], int | float | None]] = field(
        default_factory=dict
    )
    #: each returns None, or (node, why the current sizes cannot be)
    limits: list[Callable[[], tuple[str, str] | None]] = field(default_factory=list)

    def of(self, value: ir.Value) -> Dims:
        """Terms of a value, in the order of its dimensions. Raises EV211 for an unknown value."""
        if value not in self.terms:
            raise fail(str(value.name), "the axis analysis never saw this value")
        return self.terms[value]

    def names(self, value: ir.Value) -> tuple[str, ...]:
        """Readable names, a dimension each: `token`, `head*head_dim`, `?7` where unnamed.

        A dimension of one element is `1` whatever it stands for: there is no axis to name.
        """
        return tuple(name_of(term) for term in self.of(value))

    def input(self, node: ir.Node, position: int) -> Dims | None:
        """Terms of a node's input; None for an absent optional one."""
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None:
            return None
        if not is_constant(value):
            return self.of(value)
        key = (node, position)
        if key not in self.weights:
            self.weights[key] = _fresh(value)
        return self.weights[key]

    def derive(self, node: ir.Node, position: int, compute: Callable[[], np.ndarray]) -> None:
        """Register that a constant input follows from sizes; `compute` returns it, in its shape."""
        self.constants[(node, position)] = compute

    def derive_attribute(
        self, node: ir.Node, name: str, compute: Callable[[], int | float | None]
    ) -> None:
        """Register that an attribute follows from sizes."""
        self.attributes[(node, name)] = compute

    def limit(self, node: ir.Node, why: Callable[[], str | None]) -> None:
        """Register sizes a node cannot take: `why` gives the reason, None while they are fine."""

        def check() -> tuple[str, str] | None:
            reason = why()
            return (who(node), reason) if reason else None

        self.limits.append(check)


def analyse(graph: ir.Graph, signature: Signature | None = None) -> Analysis:
    """Analyse a static-shaped graph. Raises EV210 for an op without a rule, EV211 on a conflict.

    `signature` names the dimensions of graph inputs and outputs; Attention, LayerNormalization and
    MatMul name the rest.
    """
    signature = signature or {}
    found = Analysis(graph)
    for value in graph.inputs:
        found.terms[value] = _fresh(value)
        _apply(signature, value, found)
    for node in graph:
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            known = ", ".join(sorted(RULES))
            raise JobFault(
                "EV210",
                f"node {who(node)!r}: {node.domain or 'ai.onnx'}::{node.op_type} is not known to "
                "the axis analysis",
                f"without a rule its axes would be a guess; known ops: {known}",
                "add a rule in compiler/axes/rules (CONTRIBUTING.md, 'add an op')",
            )
        try:
            results = rule(found, node)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise fail(
                who(node),
                f"{node.op_type} is malformed, its rule cannot read it ({type(error).__name__}: "
                f"{error})",
            ) from error
        for value, dims in zip(node.outputs, results, strict=False):
            found.terms[value] = dims
            _check(node, value, dims)
    for value in graph.outputs:
        if not is_constant(value):
            _apply(signature, value, found)
    name_the_rest(found)
    return found


def _fresh(value: ir.Value) -> Dims:
    return [fresh_term(size, str(value.name)) for size in static_shape(value)]


def _apply(signature: Signature, value: ir.Value, found: Analysis) -> None:
    for term, name in zip(found.of(value), signature.get(str(value.name), ()), strict=False):
        if name:
            label(term, name)


def _check(node: ir.Node, value: ir.Value, dims: Dims) -> None:
    """A rule and the graph's own shapes must agree, or one of them is wrong."""
    if value.shape is None:
        return
    said, ours = list(value.shape), [size_of(term) for term in dims]
    same = len(said) == len(ours) and all(
        a == b for a, b in zip(said, ours, strict=True) if isinstance(a, int)
    )
    if not same:
        raise fail(who(node), f"the rule of {node.op_type} gives {ours}, the graph says {said}")
