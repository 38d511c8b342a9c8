"""The walk: give every dimension of every value its term, and remember what depends on sizes.

`analyse(graph)` visits each node once, in order, and calls the rule of its op (`rules/`). A rule
unifies terms, returns those of the outputs and, where the op reads a size from a constant (the
shape of a Reshape, the end of a Slice, the k of a TopK), registers how that constant follows from
the terms. `resize.py` uses exactly that record, so a structural pass never touches a shape by hand.

Initializers get fresh axes at every *use*: two layers that happen to share a vector of ones are not
thereby the same axis; when only one of them is cut, it gets its own copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, Term, expand, fail, label
from edgevlm.compiler.axes.rules import RULES
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

    def of(self, value: ir.Value) -> Dims:
        """Terms of a value, in the order of its dimensions. Raises EV211 for an unknown value."""
        if value not in self.terms:
            raise fail(str(value.name), "the axis analysis never saw this value")
        return self.terms[value]

    def names(self, value: ir.Value) -> tuple[str, ...]:
        """Readable names, a dimension each: `token`, `head*head_dim`, `1`, `?7` where unnamed."""
        return tuple(_name(term) for term in self.of(value))

    def input(self, node: ir.Node, position: int) -> Dims | None:
        """Terms of a node's input; None for an absent optional one."""
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None:
            return None
        if not is_constant(value):
            return self.of(value)
        key = (node, position)
        if key not in self.weights:
            self.weights[key] = fresh(value, str(value.name))
        return self.weights[key]

    def derive(self, node: ir.Node, position: int, compute: Callable[[], np.ndarray]) -> None:
        """Register that a constant input follows from sizes; `compute` returns it as int64."""
        self.constants[(node, position)] = compute


def analyse(graph: ir.Graph, signature: Signature | None = None) -> Analysis:
    """Analyse a static-shaped graph. Raises EV210 for an op without a rule, EV211 on a conflict.

    `signature` names the dimensions of graph inputs and outputs; Attention, LayerNormalization and
    MatMul name the rest.
    """
    signature = signature or {}
    found = Analysis(graph)
    for value in graph.inputs:
        found.terms[value] = fresh(value, str(value.name))
        _apply(signature, value, found)
    for node in graph:
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if rule is None:
            known = ", ".join(sorted(RULES))
            raise JobFault(
                "EV210",
                f"node {node.name!r}: {node.domain or 'ai.onnx'}::{node.op_type} is not known to "
                "the axis analysis",
                f"without a rule its axes would be a guess; known ops: {known}",
                "add a rule in compiler/axes/rules (CONTRIBUTING.md, 'add an op')",
            )
        for value, dims in zip(node.outputs, rule(found, node), strict=False):
            found.terms[value] = dims
            _check_rank(node, value, dims)
    for value in graph.outputs:
        _apply(signature, value, found)
    _name_hidden(found)
    return found


def fresh(value: ir.Value, origin: str) -> Dims:
    """New axes for a value, one a dimension larger than 1."""
    return [() if size == 1 else (Axis(size, origin),) for size in static_shape(value)]


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape as integers. Raises EV211 where a dimension is unknown."""
    dims = list(value.shape) if value.shape is not None else [None]
    if not all(isinstance(d, int) for d in dims):
        raise fail(str(value.name), f"its shape {value.shape} is not static")
    return tuple(int(d) for d in dims)


def is_constant(value: ir.Value) -> bool:
    return value.const_value is not None and value.producer() is None


def _apply(signature: Signature, value: ir.Value, found: Analysis) -> None:
    for term, name in zip(found.of(value), signature.get(str(value.name), ()), strict=False):
        if name:
            label(term, name)


def _check_rank(node: ir.Node, value: ir.Value, dims: Dims) -> None:
    if value.shape is not None and len(value.shape) != len(dims):
        raise fail(
            str(node.name),
            f"the rule of {node.op_type} gives rank {len(dims)}, the graph says {value.shape}",
        )


def _name_hidden(found: Analysis) -> None:
    """An unnamed axis between two weight matrices is an MLP's hidden axis."""
    for (node, position), dims in found.weights.items():
        if node.op_type in ("MatMul", "Gemm") and position == 1 and len(dims) == 2:
            for term in dims:
                label(term, "hidden")


def _name(term: Term) -> str:
    atoms = expand(term)
    if not atoms:
        return "1"
    return "*".join(atom.label or f"?{atom.size}" for atom in atoms)
