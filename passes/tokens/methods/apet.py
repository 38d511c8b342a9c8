"""ApET: keep what a small basis of tokens cannot express; the dropped merge in (arXiv 2602.19870).

    basis   10 tokens by farthest-point sampling (squared L2)
    score   e_i = |z_i - projection of z_i on the span of the basis|
    keep    the basis and the largest e; each dropped token goes into the mean of its nearest kept

Only features are needed. The public code starts at a random token; here at the one farthest from
the mean. It then writes the basis over the ten kept tokens of smallest error, so that contents and
positions no longer match; here the basis stays where it is. Its error comes from solving with
B B^T + 1e-5 I; taking the basis off token by token is the same without a solve (tested). The text
of the paper says a basis of .1 N and layer 2, its code 10 and layer 16 of 32; the code is followed:
behind the encoder to 3 K, then at half depth to K. The error grows with |z|, so large tokens
(sinks) win; `normalised` compares directions alone. Positions stay (the code renumbers).
"""

from __future__ import annotations

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import marked
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.fps import farthest, residual
from edgevlm.passes.tokens.pieces.kernels import scaled, unit
from edgevlm.passes.tokens.pieces.merge import mean
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["Apet"]

#: the first of two budgets over the second, as published (96 and 32)
RATIO = 3
FIRST = 1e6  # added to the error of a basis token, of features whose magnitude is at most 1


class ApetOptions(MethodOptions):
    basis: int = Field(10, ge=1, le=64, description="tokens that span what is expressed")
    normalised: bool = Field(False, description="features of length 1 in the error (ablation)")
    merge: bool = Field(True, description="the dropped go into the mean of their nearest kept")


class Apet(Method):
    name = "apet"
    summary = "what a basis of ten tokens cannot express; the dropped merge in"
    paper = "2602.19870"
    lowering = "D"
    sites = ("vision-out", "llm", "vision", "connector-out")
    greedy = True
    stand_in = "dart"
    Options = ApetOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("vision-out"), Site.at("llm", layers // 2)]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        if len(sites) == 2:
            return [min(count, RATIO * keep), keep]
        return super().budgets(count, keep, sites)

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=top, score=self._score, merge=mean() if self.options.merge else None)

    def _score(self, view: View) -> ir.Value:
        build, count = view.build, view.count
        features = (unit if self.options.normalised else scaled)(view, view.tokens)
        # as many directions as channels would express everything
        few = min(self.options.basis, view.keep, max(1, view.width // 2))
        basis = farthest(view, features, few)
        error = residual(view, features, basis)
        places = basis[0] if len(basis) == 1 else build("Concat", *basis, axis=0)
        first = build("Mul", marked(build, places, count), view.const(FIRST))
        return build("Add", error, first)
