"""Compute only the rows that are read.

    before: x [1,N,D] -> o_proj -> + -> RMSNorm -> MLP -> + -> Gather(last) -> [1,1,D]
    after:  x -> Gather(last) -> [1,1,D] -> o_proj -> + -> RMSNorm -> MLP -> + -> [1,1,D]

Prefill reads one row of its last layer, a ViT classifier the class token of its last block; what
stands between the last Attention and that Gather works row by row, so the Gather moves in front of
it. Values that others read as well are gathered where they are. Assumes static shapes; refuses
nothing, leaves alone what mixes rows. Expected effect: exact; the last layer's output projection
and MLP cost one row instead of all (a fifth of the prefill of a four-layer decoder).
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.axes import Analysis, analyse, resize
from edgevlm.compiler.axes.axis import Axis, Term, expand
from edgevlm.compiler.axes.cut import cut, join
from edgevlm.compiler.axes.rules.elementwise import BROADCAST, UNARY
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["GatherEarly"]

ROW_WISE = frozenset({*UNARY, *BROADCAST, "MatMul", "Reshape", "Transpose", "DequantizeLinear"})
NORMS = frozenset({"LayerNormalization", "RMSNormalization"})


class GatherEarly(Pass):
    name = "gather-early"
    summary = "compute only the rows that are read"
    effect = Effect.EXACT
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks", "drop-dead")

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            clone = part.clone()
            axes = analyse(clone.graph, model.contract.signature(role))
            for gather in [n for n in clone.graph if n.op_type == "Gather"]:
                region = _region(axes, gather)
                if region:
                    _move(clone, axes, gather, region)
                    axes = analyse(clone.graph, model.contract.signature(role))
                    changed[role] = clone
                    notes.append(
                        Note(
                            "matched",
                            f"{role}/{gather.name}",
                            f"{len(region)} nodes work on the gathered rows only",
                        )
                    )
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _axis(axes: Analysis, gather: ir.Node) -> Axis | None:
    """The one axis a Gather picks rows of, if it makes it shorter. A constant scalar is one row."""
    data, index = gather.inputs[0], gather.inputs[1]
    scalar = index.shape is not None and len(index.shape) == 0
    if data.producer() is None or index.shape is None or len(index.shape) > 1:
        return None
    if scalar and index.const_value is None:
        return None
    atoms = expand(axes.of(data)[_place(gather)])
    rows = 1 if scalar else int(index.shape[0])
    return atoms[0] if len(atoms) == 1 and rows < atoms[0].size else None


def _place(gather: ir.Node) -> int:
    return gather.attributes.get_int("axis", 0) % len(gather.inputs[0].shape)


def _region(axes: Analysis, gather: ir.Node) -> list[ir.Node]:
    """Row-wise nodes all of whose readers are in the region or the Gather itself."""
    axis = _axis(axes, gather)
    if axis is None:
        return []
    outputs, inside = set(axes.graph.outputs), {gather}
    for node in reversed(axes.graph):
        readers = {user for value in node.outputs for user, _ in value.uses()}
        if not readers or not readers <= inside or outputs & set(node.outputs):
            continue
        if _works_by_row(axes, node, axis) and node is not gather:
            inside.add(node)
    # in graph order: a set's own would change from run to run, and with it the artifact's bytes
    return [node for node in axes.graph if node in inside and node is not gather]


def _works_by_row(axes: Analysis, node: ir.Node, axis: Axis) -> bool:
    if node.op_type not in ROW_WISE | NORMS or len(node.outputs) != 1:
        return False
    if [t for t in axes.of(node.outputs[0]) if _alone(t, axis)] == []:
        return False
    carried = [axes.input(node, i) for i in range(len(node.inputs))]
    places = [[p for p, t in enumerate(dims or []) if axis in expand(t)] for dims in carried]
    if any(len(p) > 1 for p in places) or not any(places):
        return False
    if any(p and not _alone(carried[i][p[0]], axis) for i, p in enumerate(places)):
        return False
    # a stored tensor along the axis would have to be gathered too; leave that to the frontier
    if any(p and node.inputs[i].const_value is not None for i, p in enumerate(places)):
        return False
    if node.op_type == "MatMul":
        return not places[1] and places[0][0] != len(carried[0]) - 1
    if node.op_type in NORMS:
        first = node.attributes.get_int("axis", -1) % len(carried[0])
        return bool(places[0]) and places[0][0] < first
    return True


def _alone(term: Term, axis: Axis) -> bool:
    return expand(term) == [axis]


def _move(part: ir.Model, axes: Analysis, gather: ir.Node, region: list[ir.Node]) -> None:
    """Cut the region off at its frontier, shorten it, feed it gathered rows."""
    axis, index, graph = _axis(axes, gather), gather.inputs[1], part.graph
    members = set(region)
    frontier: dict[ir.Value, list[tuple[ir.Node, int]]] = {}
    for node in region:
        for position, value in enumerate(node.inputs):
            if value is None or value.producer() in members or value.const_value is not None:
                continue
            if any(_alone(t, axis) for t in axes.of(value)):
                frontier.setdefault(value, []).append((node, position))
    places = {v: next(p for p, t in enumerate(axes.of(v)) if _alone(t, axis)) for v in frontier}

    build = GraphBuilder(part, "gather_early")
    result, rows_read, place = gather.inputs[0], gather.outputs[0], _place(gather)
    behind = cut(graph, rows_read, list(rows_read.uses()))  # readers that could not take all rows
    slots = [i for i, value in enumerate(graph.outputs) if value is rows_read]
    for slot in slots:
        graph.outputs[slot] = result
    graph.remove(gather, safe=False)
    stand_ins = {value: cut(graph, value, uses) for value, uses in frontier.items()}
    free = analyse(graph)
    first = next(iter(frontier))
    scalar = len(index.shape) == 0
    resize(free, free.of(stand_ins[first])[places[first]], 1 if scalar else int(index.shape[0]))
    if scalar:
        index = build.const(index.const_value.numpy().reshape(1))
    for value, stand_in in stand_ins.items():
        rows = build("Gather", value, index, axis=places[value])
        rows.shape, rows.dtype = stand_in.shape, stand_in.dtype
        join(graph, stand_in, rows)
    if scalar:
        result = build("Squeeze", result, build.const([place]))
        result.shape, result.dtype = rows_read.shape, rows_read.dtype
    join(graph, behind, result)
    for slot in slots:
        graph.outputs[slot] = result
        rows_read.name, result.name = f"{rows_read.name}/late", rows_read.name
    build.finish()
