"""Remove attention masks that mask nothing.

    before: Attention(q, k, v, mask = 0 everywhere)    after: Attention(q, k, v)

An additive mask of zeros and a boolean mask of trues change no score, but they cost an N x N
tensor, and a pruning pass would have to gather their rows and columns. Refuses nothing; a mask that
is fed, computed or shorter than the keys stays.
Expected effect: exact; smaller artifact, fused attention kernels match.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult

__all__ = ["DropZeroMasks"]

MASK, PAST = 3, 4  # input positions in ONNX Attention


class DropZeroMasks(Pass):
    name = "drop-zero-masks"
    summary = "remove attention masks that mask nothing"
    effect = Effect.EXACT
    after = ("fold-constants",)

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            reasons = [_why_kept(node) for node in part.graph]
            notes += [
                Note("skipped", f"{role}/{node.name}", why)
                for node, why in zip(part.graph, reasons, strict=True)
                if why
            ]
            if None not in reasons:
                continue
            clone = part.clone()
            for node, why in zip(list(clone.graph), reasons, strict=True):
                if why is None:
                    mask = node.inputs[MASK]
                    node.replace_input_with(MASK, None)
                    if not mask.uses() and not mask.is_graph_output() and mask.is_initializer():
                        del clone.graph.initializers[mask.name]
            changed[role] = clone
            notes.append(Note("matched", role, f"{reasons.count(None)} masks that mask nothing"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))


def _why_kept(node: ir.Node) -> str | None:
    """None: the mask can go. A sentence: it must stay. Empty: there is none."""
    if node.op_type != "Attention" or len(node.inputs) <= MASK or node.inputs[MASK] is None:
        return ""
    value = node.inputs[MASK]
    if value.const_value is None:
        return "the mask is an input" if value.producer() is None else "the mask is computed"
    mask, keys = value.const_value.numpy(), int(node.inputs[1].shape[-2])
    if len(node.inputs) > PAST and node.inputs[PAST] is not None:
        keys += int(node.inputs[PAST].shape[2])
    if mask.shape[-1] != keys:
        return f"the mask covers {mask.shape[-1]} of {keys} keys"
    idle = mask.all() if mask.dtype == bool else not mask.any()
    return None if idle else "the mask masks something"
