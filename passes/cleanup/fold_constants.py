"""Compute at compile time what no input reaches.

    before: Constant -> Reshape -> Add(x, .)          after: Add(x, initializer)

Library: onnxscript's constant folder. Assumes static shapes. Refuses nothing; random numbers and
quantised weights are left alone, and results that would make the model larger by more than
`max_bytes` stay computed, because a broadcast constant can be larger than the model.
Expected effect: fewer nodes; exact.
"""

from __future__ import annotations

import math

import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.passes.cleanup import RANDOM_OPS

__all__ = ["FoldConstants"]

#: not folded: what is random, and what ties a scale to its integers
KEPT = RANDOM_OPS | {"DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"}
NO_LIMIT = 2**62  # the library counts elements; bytes are counted here


class FoldConstantsOptions(PassOptions):
    max_bytes: int = Field(4 * 2**20, ge=0, description="bytes a folded result may add")


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
            skipped: list[Note] = []
            folded = fold_constants(
                clone,
                output_size_limit=NO_LIMIT,
                should_fold=lambda node, role=role, log=skipped: self._fits(node, role, log),
            )
            lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
            lifted = lift(clone).modified
            if folded.modified or lifted:
                infer_shapes(clone)
                changed[role] = clone
                notes.append(Note("matched", role, f"{nodes} -> {len(clone.graph)} nodes"))
            notes += skipped
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def _fits(self, node: ir.Node, role: str, log: list[Note]) -> bool:
        """Whether to fold a node of which all inputs are constants."""
        if node.op_type in KEPT:
            return False
        added = sum(map(_bytes, node.outputs))
        freed = sum(
            _bytes(v) for v in set(node.inputs) if v and v.is_initializer() and len(v.uses()) == 1
        )
        if added - freed <= self.options.max_bytes:
            return True
        why = f"{node.op_type} would add {added - freed:.0f} bytes, over max_bytes"
        log.append(Note("skipped", f"{role}/{node.name}", why))
        return False


def _bytes(value: ir.Value) -> float:
    """Size of a value; of one without a static shape nobody knows, so it counts as too large."""
    dims = list(value.shape) if value.shape is not None else [None]
    if value.dtype is None or not all(isinstance(d, int) for d in dims):
        return math.inf
    return math.prod(dims) * value.dtype.itemsize
