"""Compute the same thing once: common subexpressions and equal initializers are merged.

    before: Cos(angles), Cos(angles), ... 60 times    after: Cos(angles) once

An exported decoder computes its rotary tables in every layer. Library: onnx-ir's CSE and
deduplication. Assumes pure ops (random ones are left alone by the library). Expected effect: 120
nodes fewer in a 30-layer decoder; exact.
"""

from __future__ import annotations

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.compiler.shapes import infer_shapes

__all__ = ["MergeDuplicates"]

#: bytes; larger equal tensors are stored once anyway (compiler/weights.py), and hashing is not free
MAX_INITIALIZER_BYTES = 4096


class MergeDuplicates(Pass):
    name = "merge-duplicates"
    summary = "compute the same subexpression once, keep equal small constants once"
    effect = Effect.EXACT
    after = ("fold-constants",)

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import (
            CommonSubexpressionEliminationPass,
            DeduplicateInitializersPass,
        )

        changed, notes = {}, []
        for role, part in model.parts.items():
            clone, nodes = part.clone(), len(part.graph)
            initializers = len(part.graph.initializers)
            equal = DeduplicateInitializersPass(size_limit=MAX_INITIALIZER_BYTES)(clone).modified
            common = CommonSubexpressionEliminationPass()(clone).modified
            if len(clone.graph) < nodes or len(clone.graph.initializers) < initializers:
                infer_shapes(clone)
                changed[role] = clone
                notes.append(
                    Note(
                        "matched",
                        role,
                        f"{nodes} -> {len(clone.graph)} nodes, {initializers}"
                        f" -> {len(clone.graph.initializers)} constants",
                    )
                )
            elif equal or common:
                notes.append(Note("info", role, "nothing equal was left"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))
