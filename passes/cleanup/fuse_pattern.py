"""What the fusions share: find a pattern at an anchor node, see that it stands alone, replace it.

A pass says which op is an anchor and what it finds around one. Here it is seen to that no value
inside the pattern is read by anybody else, since the pattern is about to go; the fused value takes
the name of the one it stands in for, so that a drift can still be told by name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["Found", "Fusion", "operands", "produced", "reader", "scalar"]


@dataclass(frozen=True)
class Found:
    """A pattern: `output` is what it computes, `inner` every node that goes with it."""

    output: ir.Value
    inner: list[ir.Node]
    make: Callable[[GraphBuilder], ir.Value]


class Fusion(Pass):
    """One pattern becomes one node, in all parts."""

    effect = Effect.EXACT
    after = ("fold-constants",)
    anchors: ClassVar[frozenset[str]]  # ops at which a pattern is looked for
    becomes: ClassVar[str]  # op, for the notes

    @abstractmethod
    def match(self, anchor: ir.Node) -> Found | str | None:
        """The pattern around a node; why it is none, though it looks like one; or None."""

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            if not any(self._is_anchor(node) for node in part.graph):
                continue
            clone, count = part.clone(), 0
            build = GraphBuilder(clone, self.name.replace("-", "_"))
            for node in [n for n in clone.graph if self._is_anchor(n)]:
                found = self.match(node) if node.graph is clone.graph else None
                reason = found if isinstance(found, str) else _escapes(found)
                if reason:
                    notes.append(Note("skipped", f"{role}/{who(node)}", reason))
                elif found is not None:
                    _replace(clone.graph, build, found)
                    count += 1
            if count:
                build.finish()
                changed[role] = clone
                notes.append(Note("matched", role, f"{count} became {self.becomes}"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def _is_anchor(self, node: ir.Node) -> bool:
        return node.op_type in self.anchors and node.domain in ("", "ai.onnx")


def scalar(value: ir.Value | None) -> float | None:
    """The one number of a constant; None for anything else."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return float(value.const_value.numpy().reshape(()))


def produced(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that computes a value, if it is one of these ops."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in ops else None


def reader(value: ir.Value) -> tuple[ir.Node, int] | None:
    """The only use of a value, as (node, position); None where there are several or none."""
    uses = list(value.uses())
    return uses[0] if len(uses) == 1 and not value.is_graph_output() else None


def operands(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other input of a node of two inputs, one of which is `value`."""
    a, b = node.inputs[:2]
    return b if a is value else a if b is value else None


def _escapes(found: Found | None) -> str:
    """Who else needs what is inside."""
    inner = set(found.inner) if found is not None else set()
    for node in found.inner if found is not None else ():
        for value in node.outputs:
            if value is found.output:
                continue
            if value.is_graph_output():
                return f"{value.name}, which is inside it, is an output of the part"
            for user, _ in value.uses():
                if user not in inner:
                    return f"{value.name}, which is inside it, is read by {who(user)} as well"
    return ""


def _replace(graph: ir.Graph, build: GraphBuilder, found: Found) -> None:
    read = {v for node in found.inner for v in node.inputs if v is not None and v.is_initializer()}
    build.take_over(found.output, found.make(build), found.inner)
    for value in read:
        if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
            del graph.initializers[value.name]
