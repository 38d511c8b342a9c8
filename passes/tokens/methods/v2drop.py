"""V2Drop: drop the tokens that a layer changes least (arXiv 2509.01552).

    s_i = | h_i - h'_i |   h, h' in front of layers L and L - 1; that is what layer L - 1 added

Sub, a norm, TopK, Gather: nothing else. The paper drops in front of layers 3, 17 and 22 of 32; the
same shares of the depth are the default. Its budgets are .5, .5 and one token; here a single number
is fallen to by equal factors. The paper finds L2 best, L1 and cosine close. Image tokens stand in
front of the question and do not see it, so the choice holds for any question. Massive activations
may win at the layers where sinks are born; `relative` divides by the norm. Refuses llm:0.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.scores import stream_change
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site, depths
from edgevlm.passes.tokens.view import View

__all__ = ["V2Drop"]


class V2DropOptions(MethodOptions):
    norm: Literal["l2", "l1"] = Field("l2", description="of the change; l1 needs no squares")
    relative: bool = Field(False, description="divide by the norm of the token before (ablation)")


class V2Drop(Method):
    name = "v2drop"
    summary = "how much the previous layer changed a token"
    paper = "2509.01552"
    sites = ("llm",)
    Options = V2DropOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return depths(layers, (3 / 32, 17 / 32, 22 / 32))

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=top, score=self._score)

    def _score(self, view: View) -> ir.Value:
        build, norm = view.build, f"Reduce{self.options.norm.upper()}"
        change = stream_change(view, norm)
        if not self.options.relative:
            return change
        length = build(norm, view.hidden(1), build.const([1]), keepdims=0)
        return build("Div", change, build("Max", length, view.const(1e-12)))
