"""Keep a fixed number of image tokens, chosen inside the graph.

    before: connector -> image_embeds [1,N,D]           prefill [1,N+T,D]   decode cache C
    after:  connector -> select -> Gather -> [1,K,D]    prefill [1,K+T,D]   decode cache C - (N - K)
                         `-> image_index [K]

Text and kept tokens keep their original positions, so a pruned prompt equals the full prompt with
the dropped keys masked (test T1). prefill and decode are re-shaped by the axis analysis alone.
Methods: `stride`, `dart` (arXiv 2502.11494). Refuses: K outside 1..N, a model that is pruned
already, a graph in which the token axis is folded into another. Expected effect: prefill time and
KV bytes fall with (K + T) / (N + T); accuracy falls with what the dropped tokens knew.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.tokens.selectors import SELECTORS

__all__ = ["KeepTokens"]


class KeepTokensOptions(PassOptions):
    keep: int = Field(description="image tokens that stay, 1..N")
    method: Literal["stride", "dart"] = Field("dart", description="how they are chosen")


class KeepTokens(Pass):
    name = "keep-tokens"
    summary = "keep K of N image tokens between connector and prefill"
    effect = Effect.STRUCTURAL
    paper = "2502.11494"
    after = ("fold-constants", "merge-duplicates", "drop-zero-masks")
    Options = KeepTokensOptions

    def requires(self, model: ExportedModel) -> None:
        contract, keep = model.contract, self.options.keep
        if contract.kind != "vlm":
            raise UsageFault(
                "EV203",
                "keep-tokens works between connector and prefill",
                f"a {contract.kind} has neither",
                "leave --tokens out",
            )
        if not 1 <= keep <= contract.image_tokens:
            raise UsageFault(
                "EV203",
                f"a budget of {keep} image tokens",
                f"this model has {contract.image_tokens}; the budget is 1 to "
                f"{contract.image_tokens}",
                f"edgevlm compile ... --tokens {max(1, contract.image_tokens // 2)}",
            )
        if contract.kept_image_tokens not in (contract.image_tokens, keep):
            raise UsageFault(
                "EV203",
                f"the model is pruned to {contract.kept_image_tokens} tokens",
                "a second choice would look at the first one's leavings",
                "compile from the unpruned source",
            )

    def run(self, model: ExportedModel) -> PassResult:
        contract, keep = model.contract, self.options.keep
        if keep == contract.kept_image_tokens:
            return PassResult(
                model,
                False,
                (
                    Note(
                        "skipped",
                        "connector",
                        f"{keep} of {contract.image_tokens} tokens are kept already",
                    ),
                ),
            )
        gone = contract.image_tokens - keep
        pruned = contract.model_copy(
            update={"kept_image_tokens": keep, "kv_capacity": contract.kv_capacity - gone}
        )
        connector = model.parts["connector"].clone()
        self._select(connector)
        notes = [
            Note(
                "matched",
                "connector",
                f"{keep} of {contract.image_tokens} by {self.options.method}",
            )
        ]
        shorter = {}
        for role in ("prefill", "decode"):
            part, log = self._shorten(model, role, pruned)
            shorter[role] = part
            notes.append(Note("matched", role, f"{len(log)} constants follow the token axis"))
        return PassResult(
            model.with_parts(pruned, connector=connector, **shorter), True, tuple(notes)
        )

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Exactly K embeddings leave the connector; prefill and decode are shorter by N - K."""
        shape = after.parts["connector"].graph.outputs[0].shape
        if list(shape) != [1, self.options.keep, after.contract.width]:
            raise JobFault(
                "EV501",
                "keep-tokens missed its budget",
                f"image_embeds is {shape}",
                "please report this",
            )

    def _select(self, connector: ir.Model) -> None:
        graph = connector.graph
        tokens = graph.outputs[0]
        build = GraphBuilder(connector, "keep_tokens")
        index = SELECTORS[self.options.method](build, tokens, self.options.keep)
        kept = build("Gather", tokens, index, axis=1)
        for value, name in ((kept, "image_embeds"), (index, "image_index")):
            clash = next((v for n in graph for v in n.outputs if v.name == name), None)
            if clash is not None:
                clash.name = f"{name}_all"
            value.name = name
        kept.dtype, index.dtype = tokens.dtype, ir.DataType.INT64
        graph.outputs[0] = kept
        graph.outputs.append(index)
        build.finish()

    def _shorten(
        self, model: ExportedModel, role: str, pruned: Contract
    ) -> tuple[ir.Model, list[str]]:
        """prefill: the prompt axis of inputs_embeds; decode: the cache axis of past_key_0."""
        part = model.parts[role].clone()
        axes = analyse(part.graph, model.contract.signature(role))
        port, dim, size = {
            "prefill": ("inputs_embeds", 1, pruned.prefill_length),
            "decode": ("past_key_0", 2, pruned.kv_capacity),
        }[role]
        value = next(v for v in part.graph.inputs if v.name == port)
        return part, resize(axes, axes.of(value)[dim], size)
