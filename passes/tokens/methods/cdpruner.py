"""CDPruner: diverse tokens, weighted by how well they fit the question (arXiv 2506.10967).

    L = diag(r) S diag(r),  S = cosine of tokens,  r = minmax(cosine of token and question)
    greedy maximum of log det L: the next token is the largest r_i^2 x (what S does not span yet)

The published relevance is CLIP's: patches against CLIP's text embedding, with a minus sign in the
LLaVA code, because patch features of CLIP run against its text. A compiled VLM has no CLIP text
encoder; the mean embedding of the question's words in the language model stands in, as in CoIn
(noted in the record), and needs the text in view, hence llm:0. Its space is the decoder's own, so
the sign is plus here and `sign=minus` is the published one. r is kept off 0 by 1e-6, as there.
Depends on the question. An incremental Cholesky factorisation in float32: not for integer targets.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import unit_range
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.dpp import max_volume
from edgevlm.passes.tokens.pieces.kernels import cosine
from edgevlm.passes.tokens.pieces.text import text_cosine
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["CDPruner"]

LEAST = 1e-6  # of the relevance


class CDPrunerOptions(MethodOptions):
    sign: Literal["plus", "minus"] = Field(
        "plus", description="of the relevance; minus is the published one, for CLIP's text"
    )


class CDPruner(Method):
    name = "cdpruner"
    summary = "greedy log-determinant of token cosines, weighted by the question"
    paper = "2506.10967"
    lowering = "D"
    sites = ("llm",)
    text_aware = True
    greedy = True
    stand_in = "dart"
    Options = CDPrunerOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", 0)]

    def pieces(self, view: View) -> Pieces:
        view.note("no CLIP text encoder: the mean embedding of the question's words stands in")
        return Pieces(select=self._select, score=self._relevance, kernel=cosine)

    def _relevance(self, view: View) -> ir.Value:
        match = text_cosine(view)
        if self.options.sign == "minus":
            match = view.build("Neg", match)
        return view.build("Add", unit_range(view.build, match), view.const(LEAST))

    def _select(self, view: View, relevance: ir.Value, kernel: ir.Value) -> ir.Value:
        build = view.build
        quality = build("Mul", build("Log", relevance), view.const(2.0))

        def worth(view: View, gain: ir.Value, _: ir.Value) -> ir.Value:
            return view.build("Add", gain, quality)

        return max_volume(view, kernel, worth)
