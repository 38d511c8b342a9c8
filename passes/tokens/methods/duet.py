"""DUET-VLM: zip behind the encoder, then ask the words, twice (arXiv 2602.18846), training-free.

    vision-out   dominant tokens by class attention; of the next w x C by class attention every
                 w-th is contextual and the others are added to those as means, by likeness of keys;
                 what comes behind these is dropped
    llm:L        s = mean over heads and over words behind the image of their attention in layer L;
                 keep the largest

Published for 32 layers: 300 + 7 or 170 + 35 tokens behind the encoder, half of them from layer 16
on and none from layer 24 on. One budget K is the mean over layers, as the paper counts: 1.6 K, 0.8
K and none, at the same shares of the depth; 4/3 K and 2/3 K where there is one llm:L. The split
between dominant and contextual is that of the smaller one. The paper text has windows of space; the
code ranks by attention. It may pick salient words by a tagger of nouns; switched off, as in its
scripts for Qwen, all words behind the image count alike, which is what a graph can do. q and k are
those of the layer that comes next, computed on all tokens beside it. Published code renumbers
behind the encoder; positions stay here. `width=0` pools all that is left in raster order, which is
VisionZip. The best published numbers are of models trained with it, which is left out. Refuses a
next layer that computes one row only.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.bipartite import mean_keys
from edgevlm.passes.tokens.pieces.contextual import share_of, zipped
from edgevlm.passes.tokens.pieces.kernels import unit
from edgevlm.passes.tokens.pieces.scores import words_attention
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site, depths
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["Duet"]

#: tokens behind the encoder over the mean of all layers, by how many stages follow it, of which the
#: first halves them at half the depth: 1 / (1/2 + 1/2 x 1/2), 1 / (1/2 + 1/4 x 1/2)
OVER_MEAN = {1: 4 / 3, 2: 1.6}
HALF, LATE = 16 / 32, 24 / 32  # of the depth


class DuetOptions(MethodOptions):
    contextual: float = Field(35 / 205, ge=0, lt=1, description="share of K that is contextual")
    width: int = Field(4, ge=0, le=1024, description="pool tokens for each contextual; 0: all")


class Duet(Method):
    name = "duet"
    summary = "zip behind the encoder, then what words look at, then nothing"
    paper = "2602.18846"
    lowering = "B"
    sites = ("vision-out", "llm")
    text_aware = True
    stand_in = "v2drop"
    Options = DuetOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        late = depths(layers, (HALF, LATE)) if layers > 1 else []
        return [Site.at("vision-out"), *late]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        kinds = [site.kind for site in sites]
        if kinds not in (["vision-out", "llm"], ["vision-out", "llm", "llm"]):
            return super().budgets(count, keep, sites)
        first = min(count, round(OVER_MEAN[len(sites) - 1] * keep))
        return [first, max(1, first // 2), 0][: len(sites)]

    def choose(self, view: View) -> Choice:
        if view.site.kind == "llm":
            paid = words_attention(view, view.attention(0))
            score = view.build("ReduceMean", paid, view.build.const([0]), keepdims=0)
            return Choice(top(view, score))
        few = share_of(view.keep, self.options.contextual)
        keys = unit(view, mean_keys(view))
        return zipped(view, view.class_attention(), keys, few, self.options.width)
