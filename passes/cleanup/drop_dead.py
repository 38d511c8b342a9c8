"""Remove nodes, initializers and opset imports that no output needs.

    before: x -> A -> y, x -> B                        after: x -> A -> y

Library: onnx-ir. Expected effect: exact.
"""

from __future__ import annotations

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["DropDead"]


class DropDead(Pass):
    name = "drop-dead"
    summary = "remove what no output needs"
    effect = Effect.EXACT
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks")

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import IdentityEliminationPass, RemoveUnusedNodesPass

        changed, notes = {}, []
        for role, part in model.parts.items():
            clone, nodes = part.clone(), len(part.graph)
            weights = len(part.graph.initializers)
            RemoveUnusedNodesPass()(clone)
            IdentityEliminationPass()(clone)
            if len(clone.graph) < nodes or len(clone.graph.initializers) < weights:
                changed[role] = clone
                notes.append(Note("matched", role, f"{nodes} -> {len(clone.graph)} nodes"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))
