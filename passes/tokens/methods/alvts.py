"""ALVTS: every layer works on its own K tokens, and all are there again behind it (CVPR 2026).

    A = softmax over the sequence of (X Vq)(Uq^T Uk)(X Vk)^T / sqrt(d), a low-rank copy of q k^T
    V2V_i = mean over image queries of A_i,  T2V_i = mean over words of A_i;  keep TopK(V2V x T2V)
    the layer runs on words and those K; the others pass it by unchanged (skip-scatter)

The factors come from an SVD of the layer's own Wq and Wk, all heads side by side, and the product
between them is multiplied in when compiling: two constants [D,R] a layer. The published selector is
then calibrated on 256 samples for minutes; this one is not (R). Taken here and left open by the
note: causal softmax, d the width of all heads (`scale` multiplies), and the mean over image queries
as one over `queries` evenly spread ones, because all would be N x N (R). A rotary embedding stands
between Wq and Wk, so what is multiplied in advance leaves positions out; the record says so.
Budgets are equal in all layers; caches hold K rows of other tokens in each. `refresh=g` chooses in
every g-th layer only. `score=random` draws K other places a layer: the control that any such method
has to beat, and a strong one. Refuses q and k that are normalised, fused or quantised.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.lowrank import folded
from edgevlm.passes.tokens.pieces.scores import weighed
from edgevlm.passes.tokens.pieces.select import drawn, spread_index, top
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Attending, Choice, View

__all__ = ["Alvts"]


class AlvtsOptions(MethodOptions):
    rank: int = Field(256, ge=1, le=65536, description="channels of the low-rank q and k")
    queries: int = Field(16, ge=1, le=65536, description="image queries that V2V is a mean of (R)")
    scale: float = Field(1.0, gt=0, le=1e4, description="times 1 / sqrt(width of all heads) (R)")
    refresh: int = Field(1, ge=1, le=9999, description="layers that share one choice (R)")
    score: Literal["lowrank", "random"] = Field("lowrank", description="random: the control")
    seed: int = Field(0, ge=0, le=2**31, description="of score=random")


class Alvts(Method):
    name = "alvts"
    summary = "another K tokens in every layer, by low-rank attention; the others pass it by"
    evidence = "N"
    lowering = "B"
    sites = ("llm",)
    text_aware = True
    permutation = "order"  # causal, and image queries are picked by place
    restore = "skip-scatter"
    stand_in = "v2drop"
    Options = AlvtsOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", layer) for layer in range(layers)]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        return [keep] * len(sites)

    def choose(self, view: View) -> Choice:
        if self.options.score == "random":
            return Choice(drawn(self.options.seed, view.site.depth)(view))
        before = view.choices_before()
        if len(before) % self.options.refresh:
            view.note("the choice of the layer in front")
            return Choice(view.build("Identity", before[-1]))
        return Choice(top(view, self._score(view)))

    def _score(self, view: View) -> ir.Value:
        build, words = view.build, view.text_rows()
        few = min(self.options.queries, view.count)
        image = build("Add", view.start, build.const(spread_index(view.count, few)))
        paid = self._paid(view, build("Concat", image, words.rows, axis=0))
        split = build.const([few, words.count])
        by_image, by_words = build("Split", paid, split, outputs=2, axis=1)  # [1,Q,N]
        seen = weighed(view, by_image, view.const(np.ones(few)))
        asked = weighed(view, by_words, words.mask)
        # each over its largest, because products of shares of a long sequence are very small
        score = build("Mul", *(build("Div", v, _peak(view, v)) for v in (seen, asked)))
        return build("Reshape", score, build.const([view.count]))

    def _paid(self, view: View, index: ir.Value) -> ir.Value:
        """[1,Q,N]: what rows pay the image tokens, by the next layer at low rank, as one head."""
        build = view.build
        rows, q, k = view.projections()
        left, right = folded(q, k, self.options.rank)
        width, rank = q.bias.size, left.shape[1]
        rows = build("Concat", rows, view.const(np.ones((view.rows, 1))), axis=1)
        few = build("MatMul", build("Gather", rows, index, axis=0), view.const(left))
        few, keys = (
            build("Unsqueeze", v, build.const([0]))
            for v in (few, build("MatMul", rows, view.const(right)))
        )
        view.note(f"q k^T at rank {rank} of {width}, without the rotary embedding between them")
        scale, length = self.options.scale / width**0.5, view.rows
        seen = Attending(few, keys, keys, scale, 1, rank, length, length, causal=True)
        return view.paid_by(few, index, seen)


def _peak(view: View, value: ir.Value) -> ir.Value:
    largest = view.build("ReduceMax", value, view.build.const([0, 1]), keepdims=1)
    return view.build("Max", largest, view.const(1e-30))
