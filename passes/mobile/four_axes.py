"""No tensor has more than four axes: what moves numbers about on five or six is written anew.

    before: [1,64,32,48] -> Reshape [1,8,8,8,4,48] -> Transpose 0,1,3,2,4,5 -> Reshape [1,64,32,48]
    after:  [1,64,32,48] -> Reshape [8,8,8,192] -> Transpose 0,2,1,3 -> Reshape [1,64,32,48]

From each value that is computed to each that is read, a chain of reshapes, transposes, slices,
splits and repeats is one strided window (view.py), and that is written with axes that stay
neighbours as one, and two transposes where one does not do (layout.py). What computes on more than
four axes (a sum, a softmax, a product of matrices) first gets the same op on fewer (fewer_axes.py).
Pixel shuffles, windows, heads that are repeated. Refused, with a note: ports of more than four
axes, ops without such a form, orders of more than seven runs. Expected effect: exact, what moves
bit for bit and sums to rounding; NPUs whose tensors have four axes take it.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.passes.mobile.fewer_axes import fewer_axes, with_fewer
from edgevlm.passes.mobile.layout import MAX_AXES, plan, write
from edgevlm.passes.mobile.moves import (
    drop_unread,
    follow,
    is_mover,
    known_shape,
    put,
    replayed,
)
from edgevlm.passes.mobile.view import View

__all__ = ["FourAxes"]


class FourAxes(Pass):
    name = "four-axes"
    summary = "tensors of five axes and more are written with four"
    effect = Effect.EXACT
    after = ("fold-constants", "separate-qkv", "unfold-patches", "one-hot-tokens")

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            if not any(_is_wide(v) for node in part.graph for v in (*node.inputs, *node.outputs)):
                continue
            clone = part.clone()
            build = GraphBuilder(clone, "four_axes")
            ops, refused = _on_fewer(build)
            build.graph.sort()
            chains, in_the_way = _rewritten(build)
            if ops + chains:
                build.finish()
                changed[role] = clone
                why = f"{chains} moves and {ops} ops with at most {MAX_AXES} axes"
                notes.append(Note("matched", role, why))
            reasons = {**refused, **in_the_way}
            notes += [Note("skipped", f"{role}/{name}", why) for name, why in reasons.items()]
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _is_wide(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and len(value.shape) > MAX_AXES


def _on_fewer(build: GraphBuilder) -> tuple[int, dict[str, str]]:
    """Ops that compute; how many were written anew, and why others were not."""
    count, refused = 0, {}
    for node in list(build.graph):
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        if not any(map(_is_wide, values)) or is_mover(node):
            continue
        found = "a shape is not known" if not all(map(known_shape, values)) else fewer_axes(node)
        if isinstance(found, str):
            refused[who(node)] = found
        else:
            with_fewer(build, node, found)
            count += 1
    return count, refused


def _rewritten(build: GraphBuilder) -> tuple[int, dict[str, str]]:
    """Chains of moves; how many, and what is in the way of others, by the name of a value."""
    graph = build.graph
    computed = [v for node in graph if not is_mover(node) for v in node.outputs if v.name]
    starts = [(v, v) for v in (*graph.inputs, *computed) if known_shape(v)]
    refused = {str(v.name): "a port of more than four axes" for v in graph.inputs if _is_wide(v)}
    count, seen, passed, made = 0, {v for v, _ in starts}, [], {}
    while starts:
        value, data = starts.pop(0)  # the same numbers in the same order
        leaves, between = follow(value, View.of([int(d) for d in value.shape]))
        passed += between
        for leaf in leaves:
            if leaf.value in seen:
                continue
            seen.add(leaf.value)
            new, wide = leaf.value, _is_wide(leaf.value)
            if leaf.axes > MAX_AXES or data is not value:
                view = View((leaf.view.factors,), leaf.view.offset) if wide else leaf.view
                steps = plan(view, [int(d) for d in data.shape])
                if wide:
                    refused.update(_readers(leaf.value))
                elif steps is None:
                    refused[str(new.name)] = "no transposes of four axes lead there"
                if steps is not None and (not wide or any(map(is_mover, _users(new)))):
                    if wide and steps and steps[-1][0] == "Reshape":
                        steps = steps[:-1]  # the numbers in order are all that is wanted
                    new = replayed(build, write(build, data, steps, made), leaf.then)
                    if not wide:
                        put(build, leaf.value, new, data)
                        count += 1
            if not wide or new is not leaf.value:
                starts.append((leaf.value if wide else new, new))
    drop_unread(graph, [*passed, *(n for n in graph if str(n.name).startswith(build.prefix))])
    return count, refused


def _users(value: ir.Value) -> list[ir.Node]:
    return [node for node, _ in value.uses()]


def _readers(value: ir.Value) -> dict[str, str]:
    """Why a value keeps its axes."""
    if value.is_graph_output():
        return {str(value.name): "a port of more than four axes"}
    names = [who(node) for node in _users(value) if not is_mover(node)]
    axes = f"read with {len(value.shape)} axes by {', '.join(names)}"
    return {str(value.name): axes} if names else {}
