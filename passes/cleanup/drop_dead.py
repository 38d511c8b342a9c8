"""Remove nodes, optional outputs, initializers and opset imports that no output needs.

    before: x -> A -> Identity -> y, x -> B            after: x -> A -> y

Library: onnx-ir. Refuses nothing; an Identity stays where it gives one value two output names.
Expected effect: exact.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["DropDead"]


class DropDead(Pass):
    name = "drop-dead"
    summary = "remove what no output needs"
    effect = Effect.EXACT
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks")

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

        changed, notes = {}, []
        for role, part in model.parts.items():
            clone, before = part.clone(), _parts(part)
            RemoveUnusedNodesPass()(clone)
            _drop_identities(clone.graph)
            RemoveUnusedOpsetsPass()(clone)
            after = _parts(clone)
            if after != before:
                changed[role] = clone
                what = [f"{n} -> {after[k]} {k}" for k, n in before.items() if n != after[k]]
                notes.append(Note("matched", role, ", ".join(what)))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _parts(part: ir.Model) -> dict[str, object]:
    """Everything the pass may reduce."""
    nodes = list(part.graph)
    return {
        "nodes": len(nodes),
        "node inputs": sum(len(n.inputs) for n in nodes),
        "node outputs": sum(bool(v.name) for n in nodes for v in n.outputs),
        "constants": len(part.graph.initializers),
        "opsets": sorted(part.opset_imports),
    }


def _drop_identities(graph: ir.Graph) -> None:
    """As onnx-ir's pass does, but an output never takes the name of another output."""
    for node in list(graph):
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
            continue
        source, copy = node.inputs[0], node.outputs[0]
        is_output, name = copy.is_graph_output(), copy.name
        if is_output and (source.producer() is None or source.is_graph_output()):
            continue
        source.shape = source.shape if source.shape is not None else copy.shape
        source.type = source.type if source.type is not None else copy.type
        ir.convenience.replace_all_uses_with(copy, source, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        if is_output:
            source.name = name
