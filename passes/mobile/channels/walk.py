"""A graph is walked once, from its inputs; what has a form with channels first is written in it.

    value      shape [..,S,C]  form `tokens`   [1,S,H,d] `split`   [1,H,S,d] `heads`
    its line   always [1,C,1,S], with C = H d: the three differ in how their axes are named alone

A rule per op reads lines and gives lines. What has no rule reads the value as it was, so that the
layout changes there and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.passes.mobile.moves import drop_unread, known_shape, put

__all__ = ["Form", "Line", "Rule", "Walk", "tokens_of"]

Form = Literal["tokens", "split", "heads"]


@dataclass(frozen=True)
class Line:
    """A value with channels first: `value` is [1,C,1,S]."""

    value: ir.Value
    form: Form = "tokens"
    heads: int = 1

    @property
    def channels(self) -> int:
        return int(self.value.shape[1])

    @property
    def count(self) -> int:
        """Of tokens."""
        return int(self.value.shape[3])


#: lines of what a node gives, or None where it has no such form; nothing is built then
Rule = Callable[["Walk", ir.Node], "Line | None"]


@dataclass
class Walk:
    build: GraphBuilder
    lines: dict[ir.Value, Line] = field(default_factory=dict)
    turned: dict[ir.Value, ir.Value] = field(default_factory=dict)  # values that were no lines
    reshaped: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = field(default_factory=dict)
    kernels: dict[tuple[ir.Value, bool], ir.Value] = field(default_factory=dict)  # of matrices
    constants: dict[ir.Value, ir.Value] = field(default_factory=dict)  # as they meet a line
    biases: dict[tuple[int, ir.DataType], ir.Value] = field(default_factory=dict)  # by rows

    def over(self, rules: Mapping[str, Rule]) -> dict[str, int]:
        """Rewrite; how many nodes of each op have another form, and `layouts` that change."""
        graph, done = self.build.graph, []
        for node in list(graph):
            rule = rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is None or not all(map(known_shape, node.outputs[:1])):
                continue
            if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
                continue
            if (line := rule(self, node)) is not None:
                self.lines[node.outputs[0]] = line
                done.append(node)
        back = [node.outputs[0] for node in done if self._is_read(node.outputs[0], set(done))]
        for value in back:
            put(self.build, value, self._as_it_was(value), value)
        self._clear(done)
        turned = [value for value in self.turned.values() if value.uses()]
        counts: dict[str, int] = {"layouts": len(back) + len(turned)}
        for node in done:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        return counts

    def line(self, value: ir.Value | None, form: Form = "tokens") -> Line | None:
        """Of this form, where there is one already."""
        found = self.lines.get(value) if value is not None else None
        return found if found is not None and found.form == form else None

    def turn(self, value: ir.Value) -> Line | None:
        """The line of a value of form `tokens`, made where there is none."""
        if value in self.lines:
            return self.line(value)
        if (sizes := tokens_of(value)) is None:
            return None
        if value not in self.turned:
            (count, channels), new = sizes, value
            if min(sizes) > 1:
                new = self.transpose(new, [*range(len(value.shape) - 2), -1, -2])
            self.turned[value] = self.reshape(new, [1, channels, 1, count])
        return Line(self.turned[value])

    def made(self, op: str, *inputs: ir.Value | None, **attributes: object) -> ir.Value:
        """A node whose output has the shape that its inputs, as they meet, have."""
        new = self.build(op, *inputs, **attributes)
        ranks = [list(v.shape) for v in inputs if v is not None]
        rank = max(map(len, ranks))
        padded = [[1] * (rank - len(shape)) + shape for shape in ranks]
        new.shape = ir.Shape([max(int(s[i]) for s in padded) for i in range(rank)])
        new.dtype = next(v.dtype for v in inputs if v is not None)
        return new

    def reshape(self, value: ir.Value, shape: list[int]) -> ir.Value:
        if list(value.shape) == shape:
            return value
        key = value, tuple(shape)
        if key not in self.reshaped:
            new = self.build("Reshape", value, self.build.const(shape))
            new.shape, new.dtype = ir.Shape(shape), value.dtype
            self.reshaped[key] = new
        return self.reshaped[key]

    def transpose(self, value: ir.Value, perm: list[int]) -> ir.Value:
        perm = [axis % len(perm) for axis in perm]
        new = self.build("Transpose", value, perm=perm)
        new.shape, new.dtype = ir.Shape([value.shape[i] for i in perm]), value.dtype
        return new

    def _clear(self, done: list[ir.Node]) -> None:
        """What was replaced, and what a rule built before it saw that it does not hold."""
        graph, ours = self.build.graph, f"{self.build.prefix}/"
        drop_unread(graph, [*done, *(n for n in graph if str(n.name).startswith(ours))])
        for name, value in list(graph.initializers.items()):
            if name.startswith(ours) and not value.uses():
                graph.initializers.pop(name)

    def _is_read(self, value: ir.Value, done: set[ir.Node]) -> bool:
        return value.is_graph_output() or any(node not in done for node, _ in value.uses())

    def _as_it_was(self, value: ir.Value) -> ir.Value:
        line, shape = self.lines[value], [int(d) for d in value.shape]
        count, heads, new = line.count, line.heads, line.value
        if line.form == "tokens":
            if min(count, line.channels) > 1:
                new = self.transpose(self.reshape(new, [1, line.channels, count]), [0, 2, 1])
            return self.reshape(new, shape)
        new = self.reshape(new, [1, heads, line.channels // heads, count])
        if count > 1:
            new = self.transpose(new, [0, 1, 3, 2] if line.form == "heads" else [0, 3, 1, 2])
        return self.reshape(new, shape)


def tokens_of(value: ir.Value) -> tuple[int, int] | None:
    """(S, C) of [..,S,C] with nothing but ones in front; None for any other shape."""
    if not known_shape(value) or len(value.shape) < 2:
        return None
    *outer, count, channels = (int(d) for d in value.shape)
    return (count, channels) if math.prod(outer) == 1 and len(outer) <= 1 else None
