"""Choosing tokens without an index: a product with a one-hot matrix, and ranks by counting.

    before: scores [N] -> TopK -> TopK ascending -> index [K];  Gather(x [1,N,D], index) -> [1,K,D]
    after:  scores [N] -> compare all pairs, count -> P [K,N];  P x -> [1,K,D]

For NPUs that neither gather nor sort: an Ethos-U85 runs a TopK and a Gather on the CPU, which cuts
its graph in two. Gather, Scatter and OneHot with computed places
become Equal and MatMul, TopK and ArgMax what ranks.py has; places known when compiling become a
Slice, or a stored matrix. Assumes that a row which is left out is finite, as zero times it must be
zero; and reads NaN among scores as the lowest. N x N comparisons cost little up to some thousand
tokens (`most`); a table of more rows, an embedding, is looked up as before (`table_rows`). Refused,
with a note: places that differ along what is gathered, integers that float32 has not.
Expected effect: exact; one graph in place of several.
"""

from __future__ import annotations

import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.mobile.bounds import Bounds, ranges_of_ports
from edgevlm.passes.mobile.choosing import Limits, Refused
from edgevlm.passes.mobile.hot import WHOLE, Hot
from edgevlm.passes.mobile.without_index import HANDLED, RANKS, rewritten

__all__ = ["OneHotTokens"]


class OneHotTokensOptions(PassOptions):
    topk: bool = Field(True, description="TopK and ArgMax too; false: for NPUs that have them")
    most: int = Field(4096, ge=1, le=2**14, description="tokens that are ranked by counting")
    table_rows: int = Field(
        2048, ge=0, le=2**20, description="rows of a stored table that is not looked up any more"
    )


class OneHotTokens(Pass):
    name = "one-hot-tokens"
    summary = "tokens are chosen by one-hot products and counted ranks, without an index"
    effect = Effect.EXACT
    after = ("fold-constants", "keep-tokens", "merge-attention", "quantize-weights")
    Options = OneHotTokensOptions

    def run(self, model: ExportedModel) -> PassResult:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        changed, notes, options = {}, [], self.options
        limits = Limits(options.topk, options.most, options.table_rows)
        for role, part in model.parts.items():
            if not any(n.op_type in HANDLED for n in part.graph):
                continue
            clone, ops = part.clone(), {}
            build = GraphBuilder(clone, "one_hot_tokens")
            hot = Hot(build, Bounds(ranges_of_ports(model.contract, role)))
            for node in list(clone.graph):
                if node.graph is not clone.graph:
                    continue
                where, op = f"{role}/{who(node)}", node.op_type
                try:
                    done = rewritten(hot, node, limits)
                except Refused as reason:
                    notes.append(Note("skipped", where, str(reason)))
                    continue
                if done:
                    ops[op] = ops.get(op, 0) + 1
                if op in RANKS and done > WHOLE[ir.DataType.FLOAT16]:
                    notes.append(Note("info", where, f"counts {done} tokens: not in float16"))
            if ops:
                build.finish()
                RemoveUnusedNodesPass()(clone)
                changed[role] = clone
                why = ", ".join(f"{n} {op}" for op, n in sorted(ops.items()))
                notes.append(Note("matched", role, f"{why} without an index"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))
