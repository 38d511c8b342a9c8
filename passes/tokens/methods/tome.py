"""ToMe: in every block, merge the tokens that are most alike (ICLR 2023, arXiv 2210.09461).

    metric   mean over heads of the block's own keys, rows of length 1
    A, B     every other row of the stream; class and register rows are never merged
    match    a in A with the b in B of largest cosine; the r best pairs are merged, a into b
    token    mean weighted by how many tokens each stands for
    later    log(size) is added to a merged token's logits as a key (proportional attention)

Works between attention and MLP, so `vision:B` is inside block B here. r is the same in every block
and at most half of the tokens there, so that the last block leaves K: where half is not enough to
get there, r is half in the blocks it is too large for. A single site that is asked for more than
half does it in rounds, each a matching of its own on the means (not published; the record says so).
Published code puts tokens that found no partner first and the others behind; here a token stays
where its survivor b stood, in ascending order, so which rows meet as A and B differs from the
second block on. Merging two tokens alike in all they feed later attention is exact with
`proportional`; without it sizes are not carried on, so that a later mean counts each as one. In a
dense model every token gets what became of the one it went into. Not for attention in windows.
Published at heavy ratios on language models it falls behind pruning.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import largest, marked
from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.bipartite import (
    match,
    mean_keys,
    members,
    merged,
    remaining,
    slots,
)
from edgevlm.passes.tokens.pieces.kernels import unit
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["ToMe"]


class ToMeOptions(MethodOptions):
    proportional: bool = Field(True, description="log(size) on a merged token's later logits")


class ToMe(Method):
    name = "tome"
    summary = "the most alike of two halves merge, in every block of the encoder"
    paper = "2210.09461"
    lowering = "B"
    sites = ("vision",)
    permutation = "order"
    stream = "middle"
    Options = ToMeOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("vision", block) for block in range(blocks or 1)]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        """The same r in every block, the smallest that gets there."""
        found: list[int] = []
        for r in range(count):
            found, left = [], count
            for _ in sites:
                left = max(keep, left - min(r, left // 2))
                found.append(left)
            if found[-1] == keep:
                break
        return [*found[:-1], keep]

    def choose(self, view: View) -> Choice:
        build, left = view.build, view.count
        metric, tokens, sizes = mean_keys(view), view.tokens, view.sizes()
        index, owner, rounds = None, None, 0
        while left > view.keep:
            less = max(view.keep, left - left // 2)
            survivors, member = _pair_off(view, metric, left, less)
            tokens, total = merged(build, member, sizes, tokens)
            metric, sizes = merged(build, member, sizes, metric)[0], total
            into = slots(build, member)
            index = survivors if index is None else build("Gather", index, survivors, axis=0)
            owner = into if owner is None else build("Gather", into, owner, axis=0)
            left, rounds = less, rounds + 1
        if rounds > 1:
            view.note(f"{view.keep} of {view.count} at one site: {rounds} rounds of matching")
        return Choice(index, tokens, sizes if self.options.proportional else None, owner)


def _pair_off(view: View, metric: ir.Value, count: int, left: int) -> tuple[ir.Value, ir.Value]:
    """(survivors int64 [left], members [left,count]) of one matching of `count` tokens."""
    build, place = view.build, np.arange(count)
    even = (view.first + place) % 2 == 0
    a, b = place[even], place[~even]
    rows = unit(view, metric)
    both = (build("Gather", rows, build.const(side), axis=0) for side in (a, b))
    likeness, to = match(build, *both)
    pairs = largest(build, view.form, likeness, len(a), count - left)
    gone = marked(build, build("Gather", build.const(a), pairs, axis=0), count)
    partner = build("Concat", build("Gather", build.const(b), to, axis=0), build.const(b), axis=0)
    partner = build("Gather", partner, build.const(np.argsort(np.concatenate([a, b]))), axis=0)
    merges = build("Greater", gone, view.const(0.5))
    owner = build("Where", merges, partner, build.const(place))
    index = remaining(build, gone, count, left)
    return index, members(build, index, owner)
