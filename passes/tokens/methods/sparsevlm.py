"""SparseVLM: words that rate the picture choose; the best of the rest are clustered (2410.04417).

    raters   m_j = mean over image tokens of softmax over words (V T^T), at the input, once;
             raters are the words with m_j above the mean (as weights, so their number may vary)
    score    s = mean over raters and heads of attention(rater -> token) in the layer in front
    keep     the best by s, then the best 30 % of those dropped, clustered by density peaks: each
             cluster leaves the mean of its tokens

The budget K counts kept and cluster tokens, and a cluster stands at the place of its centre token,
so that K ascending, unique places come out; public code appends clusters behind the kept tokens and
renumbers. There the share `pool` of the dropped is clustered to one centre in ten (`clusters`); the
kept number is the largest for which both make K, and clusters are at most half of K. Version 2
(SparseVLM+) divides each attention by one of positions alone (q and k of ones, rotated) to cancel
the pull of nearness, reads only the `heads` with most attention on the picture and merges nothing.
Sites 2, 6 and 15 of 32 layers, at the same shares of the depth. Depends on the question. Where no
word is a rater (all alike), all words are. Refuses llm:0, and version 2 without rotary embeddings.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import largest, marked
from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.dpc import cluster
from edgevlm.passes.tokens.pieces.scores import weighed
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site, depths
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["SparseVLM", "split_budget"]


class SparseVLMOptions(MethodOptions):
    version: Literal["1", "2"] = Field("1", description="2: SparseVLM+, without merging")
    pool: float = Field(0.3, ge=0, le=1, description="share of the dropped that is clustered")
    clusters: float = Field(0.1, ge=0, le=1, description="centres a clustered token; 0: none")
    heads: float = Field(0.4375, gt=0, le=1, description="share of heads of version 2 (14 of 32)")


def split_budget(count: int, keep: int, pool: float, clusters: float) -> tuple[int, int, int]:
    """(kept, clustered, centres) with kept + centres = keep, kept as large as can be."""
    for kept in range(keep, -1, -1) if clusters > 0 else ():
        rest = count - kept
        size = min(rest, int(rest * pool) + 1)
        centres = min(int(size * clusters) + 1, size, keep // 2)
        if centres and kept + centres == keep:
            return kept, size, centres
    return keep, 0, 0


class SparseVLM(Method):
    name = "sparsevlm"
    summary = "attention of the words that rate the picture, the best of the rest clustered"
    paper = "2410.04417"
    lowering = "B"
    sites = ("llm",)
    text_aware = True
    stand_in = "v2drop"
    Options = SparseVLMOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return depths(layers, (2 / 32, 6 / 32, 15 / 32))

    def choose(self, view: View) -> Choice:
        score = self._score(view)
        o = self.options
        kept, size, centres = split_budget(view.count, view.keep, o.pool, o.clusters)
        if o.version == "2" or not centres:
            return Choice(top(view, score))
        build, form, count = view.build, view.form, view.count
        best = largest(build, form, score, count, kept)
        pool = largest(build, form, score, count, size, marked(build, best, count))
        features = build("Gather", view.tokens, pool, axis=0)
        centre, member = cluster(view, features, size, centres, view.width)
        sizes = build("ReduceSum", member, build.const([1]), keepdims=1)
        means = build("Div", build("MatMul", member, features), sizes)
        places = build("Concat", best, build("Gather", pool, centre, axis=0), axis=0)
        index, order = build("TopK", places, build.const([view.keep]), outputs=2, axis=0, largest=0)
        content = build("Concat", build("Gather", view.tokens, best, axis=0), means, axis=0)
        ones = view.const([1.0] * kept)
        sizes = build("Concat", ones, build("Reshape", sizes, build.const([centres])), axis=0)
        view.note(f"{kept} tokens kept, {centres} clusters of the best {size} dropped")
        return Choice(
            index,
            build("Gather", content, order, axis=0),
            build("Gather", sizes, order, axis=0),
        )

    def _score(self, view: View) -> ir.Value:
        build, seen, raters = view.build, view.attention(1), self._raters(view)
        rows = view.text_rows().rows
        paid = view.paid(seen, rows)  # [heads,T,N]
        if self.options.version == "1":
            return build("ReduceMean", weighed(view, paid, raters), build.const([0]), keepdims=0)
        alone = build("Max", view.paid(view.rotation(1), rows), view.const(1e-12))
        ratio = weighed(view, build("Div", paid, alone), raters)  # [heads,N]
        mass = build("ReduceSum", weighed(view, paid, raters), build.const([1]), keepdims=0)
        few = max(1, round(self.options.heads * seen.heads))
        picked = largest(build, view.form, mass, seen.heads, few)
        return build(
            "ReduceMean", build("Gather", ratio, picked, axis=0), build.const([0]), keepdims=0
        )

    def _raters(self, view: View) -> ir.Value:
        """float32 [T]: 1 for a rater."""
        build = view.build
        image, words = view.given()
        match = build("MatMul", image, build("Transpose", words.rows, perm=[1, 0]))  # [N,T]
        match = build("Where", _is(view, words.mask), match, view.const(-1e30))
        looked = build("ReduceMean", build("Softmax", match, axis=-1), build.const([0]), keepdims=0)
        mean = weighed(view, build("Unsqueeze", looked, build.const([1])), words.mask)  # [1]
        above = build("Cast", build("Greater", looked, mean), to=ir.DataType.FLOAT.value)
        raters = build("Mul", above, words.mask)
        some = build("ReduceMax", raters, build.const([0]), keepdims=1)
        return build("Where", _is(view, some), raters, words.mask)


def _is(view: View, flag: ir.Value) -> ir.Value:
    return view.build("Greater", flag, view.const(0.5))
