"""Compute at compile time what no input reaches.

    before: Constant -> Reshape -> Add(x, .)          after: Add(x, initializer)

Library: onnxscript's constant folder. Assumes static shapes. Refuses nothing; results larger than
`max_bytes` stay computed, because a broadcast constant can be larger than the model.
Expected effect: fewer nodes; exact.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.shapes import infer_shapes

__all__ = ["FoldConstants"]


class FoldConstantsOptions(PassOptions):
    max_bytes: int = Field(4 * 2**20, ge=0, description="bytes a folded result may have")


class FoldConstants(Pass):
    name = "fold-constants"
    summary = "compute at compile time what no input reaches"
    effect = Effect.EXACT
    Options = FoldConstantsOptions

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import LiftConstantsToInitializersPass
        from onnxscript.optimizer import fold_constants

        changed, notes = {}, []
        for role, part in model.parts.items():
            clone, nodes = part.clone(), len(part.graph)
            folded = fold_constants(clone, output_size_limit=self.options.max_bytes)
            lifted = LiftConstantsToInitializersPass(lift_all_constants=True)(clone)
            if folded.modified or lifted.modified:
                infer_shapes(clone)
                changed[role] = clone
                notes.append(Note("matched", role, f"{nodes} -> {len(clone.graph)} nodes"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))
