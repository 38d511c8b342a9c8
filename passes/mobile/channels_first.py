"""Tokens with their channels first, linears as convolutions of 1x1, attention head by head.

    before: x [1,S,C] -> LayerNorm -> MatMul [C,N] -> + -> Reshape, Transpose [1,H,S,d] -> Attention
    after:  x [1,C,1,S] -> norm over axis 1 -> Conv [N,C,1,1] -> + -> Split: a head each -> Einsum

The layout that Apple advises for its Neural Engine ("Deploying Transformers on the Apple Neural
Engine", https://machinelearning.apple.com/research/neural-engine-transformers: a DistilBERT up to
10 times faster there). Whether a model of today gains is for a device to say, so it is asked for,
by `--layout channels`. It runs last, for others look for MatMul and Attention. Weights that are
rounded keep their codes, tables and scales. The layout changes back where an op has no form of its
own: attention to caches or with masks, what picks tokens, ports. Refused, with a note: a part that
multiplies tokens with no stored matrix.
Expected effect: exact to rounding; squares of norms are taken of what is below 1 (norms.py).
"""

from __future__ import annotations

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.passes.mobile.channels import attention, norms, pointwise, products
from edgevlm.passes.mobile.channels.walk import Walk

__all__ = ["ChannelsFirst"]

RULES = products.RULES | pointwise.RULES | norms.RULES | attention.RULES


class ChannelsFirst(Pass):
    name = "channels-first"
    summary = "tokens [1,S,C] become [1,C,1,S], and linears convolutions of 1x1"
    effect = Effect.EXACT
    after = (
        "fold-constants",
        "separate-qkv",
        "four-axes",
        "keep-tokens",
        "merge-attention",
        "narrow-encoder",
        "palettise-weights",
        "quantize-weights",
        "quantize-activations",
        "quantize-kv",
    )

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes = {}, []
        for role, part in model.parts.items():
            clone = part.clone()
            build = GraphBuilder(clone, "channels_first")
            found = Walk(build).over(RULES)
            products = found.get("MatMul", 0) + found.get("Gemm", 0)
            if not products:
                notes.append(Note("skipped", role, "no product of tokens and a stored matrix"))
                continue
            build.finish()
            changed[role] = clone
            heads = found.get("Attention", 0)
            why = f"{products} products as convolutions, {heads} attentions head by head; "
            notes.append(Note("matched", role, f"{why}the layout changes {found['layouts']} times"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))
