"""Remove attention masks that mask nothing.

    before: Attention(q, k, v, mask = 0 everywhere)    after: Attention(q, k, v)

An additive mask of zeros and a boolean mask of trues change no score, but they cost an N x N tensor,
and a pruning pass would have to gather their rows and columns. Only constant masks are looked at.
Expected effect: exact; smaller artifact, fused attention kernels match.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["DropZeroMasks"]

MASK = 3  # input position in ONNX Attention


class DropZeroMasks(Pass):
    name = "drop-zero-masks"
    summary = "remove attention masks that mask nothing"
    effect = Effect.EXACT
    after = ("fold-constants",)

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            idle = [i for i, node in enumerate(part.graph) if _is_idle(node)]
            kept = [n for n in part.graph if _has_mask(n) and not _is_idle(n)]
            notes += [
                Note("skipped", f"{role}/{n.name}", "the mask masks something or is an input")
                for n in kept
            ]
            if not idle:
                continue
            clone = part.clone()
            nodes = list(clone.graph)
            for i in idle:
                nodes[i].replace_input_with(MASK, None)
            for name, value in list(clone.graph.initializers.items()):
                if not value.uses():
                    del clone.graph.initializers[name]
            changed[role] = clone
            notes.append(Note("matched", role, f"{len(idle)} masks of zeros"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _has_mask(node: ir.Node) -> bool:
    return node.op_type == "Attention" and len(node.inputs) > MASK and node.inputs[MASK] is not None


def _is_idle(node: ir.Node) -> bool:
    if not _has_mask(node) or node.inputs[MASK].const_value is None:
        return False
    mask = node.inputs[MASK].const_value.numpy()
    return bool(mask.all()) if mask.dtype == bool else not mask.any()
