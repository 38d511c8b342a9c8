"""SAD-TM: in each block the least important tokens go into those most like them (CVPR 2026).

    a'_i   mean over heads of the block's own attention that the class token pays token i
    o_i    how much place i says what all places say, found offline; low merges first
    m      (1 - beta) a' / max a' + beta o,  o min-maxed to 0..1;  the N - K lowest are sources
    token  mean of a kept token and the sources whose keys are most like its own, weighted by m

Works between attention and MLP, so `vision:B` is inside block B here. The first blocks are left
alone (`skip`, a share of the depth) and N falls by the same number in each later one. The paper
takes o from gradients, o_i = mean_j Pearson(s_i, s_j) of the saliency of patches; of a picture not
seen yet that can only be a prior over places, so it is read from a file: `prior`, a .npy of one
float per place of the whole grid, and beta is 0 without one. A recipe that names a file needs it
again. The note leaves out alpha, beta, tau and what tokens are alike in; these are options, and
keys (R). Published numbers have no proportional attention, and neither is there here unless
`weight=size`, which takes plain means, counts tokens and is then a ToMe that picks its sources.
Without a class token a mean over patches' queries stands in, noted in the record. In a dense model
every token gets what became of the one it went into. Not for attention in windows.
"""

from __future__ import annotations

from typing import Literal

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
from edgevlm.passes.tokens.pieces.prior import read_prior
from edgevlm.passes.tokens.pieces.scores import of_peak
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["SadTM"]

LEAST = 1e-6  # importance: a mean needs weights above 0


class SadTMOptions(MethodOptions):
    prior: str | None = Field(None, max_length=1024, description="path of a .npy, a float a place")
    beta: float = Field(0.5, ge=0, le=1, description="weight of the prior, where there is one (R)")
    weight: Literal["importance", "size"] = Field("importance", description="of tokens in a mean")
    skip: float = Field(0.25, ge=0, lt=1, description="share of blocks left alone in front (R)")


class SadTM(Method):
    name = "sadtm"
    summary = "the least important merge into those most like them, block by block"
    evidence = "N"
    lowering = "B"
    sites = ("vision",)
    stream = "middle"
    Options = SadTMOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        blocks = blocks or 1
        first = min(round(self.options.skip * blocks), blocks - 1)
        return [Site.at("vision", block) for block in range(first, blocks)]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        """N falls by the same number from site to site."""
        steps = len(sites)
        return [count - round((count - keep) * (i + 1) / steps) for i in range(steps)]

    def choose(self, view: View) -> Choice:
        build, count, keep = view.build, view.count, view.keep
        importance, rows = self._importance(view), unit(view, mean_keys(view))
        sources = largest(build, view.form, build("Neg", importance), count, count - keep)
        gone = marked(build, sources, count)
        index = remaining(build, gone, count, keep)
        _, to = match(build, rows, build("Gather", rows, index, axis=0))
        into = build("Gather", index, to, axis=0)  # [N]
        merges = build("Greater", gone, view.const(0.5))
        owner = build("Where", merges, into, build.const(np.arange(count)))
        member = members(build, index, owner)
        counted = self.options.weight == "size"
        weight = view.sizes() if counted else importance
        tokens, total = merged(build, member, weight, view.tokens)
        return Choice(index, tokens, total if counted else None, slots(build, member))

    def _importance(self, view: View) -> ir.Value:
        """float32 [N], LEAST to 1."""
        build = view.build
        online = of_peak(view, view.class_attention())
        if self.options.prior is not None:
            rows, columns = view.model.contract.grid
            prior = view.const(read_prior(self.options.prior, rows * columns))
            if view.places is not None:
                prior = build("Gather", prior, view.places, axis=0)
            online = build("Mul", online, view.const(1 - self.options.beta))
            online = build("Add", online, build("Mul", prior, view.const(self.options.beta)))
        return build("Max", online, view.const(LEAST))
