"""TransPrune: how far the modules turn and stretch a token, and what the question asks of it.

    TTV   |out| / |in| x softmax over the sequence of 1 - cos(in, out), of attention and of MLP
          (in: behind the norm, out: before it is added), summed over layers
    IGA   mean over heads and words of softmax(q k^T) of the next layer
    score alpha x TTV / sum TTV + (1 - alpha) x IGA / sum IGA;  keep the K largest

CVPR 2026, public code read. It has 1 - cos where the paper's text has 1 - |cos|, and a softmax over
the whole sequence; idle rows are kept out of it here. Sites 7, 9 and 12 of 32 layers, at the same
shares of the depth, never in front of the last layer, which computes one row only and so has no
attention of words to show. TTV is summed from the first site on: one layer in front of that, then
those since. A tap cannot look back over a site that dropped tokens, so the sum begins anew behind
each site (public code carries it on), which the record notes; `layers_back` asks for another number
of layers. Public code renumbers positions; here they stay. alpha = 1 leaves out the question.
Refuses llm:0, and layers of one residual sum.
"""

from __future__ import annotations

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.scores import share, words_attention
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site, depths
from edgevlm.passes.tokens.view import View

__all__ = ["TransPrune"]


class TransPruneOptions(MethodOptions):
    alpha: float = Field(0.5, ge=0, le=1, description="share of TTV; 1: without the question")
    layers_back: int = Field(0, ge=0, le=9999, description="layers summed; 0: since the last site")


class TransPrune(Method):
    name = "transprune"
    summary = "how modules turn and stretch a token, and the question's attention to it"
    lowering = "A"
    sites = ("llm",)
    text_aware = True
    stand_in = "v2drop"
    Options = TransPruneOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        found = depths(layers, (7 / 32, 9 / 32, 12 / 32))
        return [site for site in found if site.depth < layers - 1] or found[:1]

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=top, score=self._score)

    def _score(self, view: View) -> ir.Value:
        build, alpha = view.build, self.options.alpha
        parts = []
        if alpha > 0:
            parts.append(build("Mul", share(view, self._transition(view)), view.const(alpha)))
        if alpha < 1:
            asked = words_attention(view, view.attention(0))
            mean = build("ReduceMean", asked, build.const([0]), keepdims=0)
            parts.append(build("Mul", share(view, mean), view.const(1 - alpha)))
        return parts[0] if len(parts) == 1 else build("Add", *parts)

    def _transition(self, view: View) -> ir.Value:
        """[N]: TTV of the layers that count."""
        asked, reach = self.options.layers_back, view.reach
        first = not view.model.contract.sites
        back = min(asked or (1 if first else max(1, reach)), max(1, reach))
        if asked > back or not (first or asked):
            view.note(f"transitions of {back} layers: the sum begins anew behind the last site")
        idle = view.build("Less", view.used(), view.const(0.5))
        total = None
        for layer in range(back, 0, -1):
            for given, made in view.module_rows(layer):
                ttv = self._module(view, given, made, idle)
                total = ttv if total is None else view.build("Add", total, ttv)
        return view.image_rows(total)

    def _module(self, view: View, given: ir.Value, made: ir.Value, idle: ir.Value) -> ir.Value:
        """[L]: TTV of one module."""
        build = view.build
        lengths = [build("ReduceL2", v, build.const([1]), keepdims=0) for v in (given, made)]
        before, after = (build("Max", length, view.const(1e-6)) for length in lengths)
        dot = build("ReduceSum", build("Mul", given, made), build.const([1]), keepdims=0)
        cosine = build("Div", build("Div", dot, before), after)
        turn = build("Where", idle, view.const(-1e30), build("Sub", view.const(1.0), cosine))
        return build("Mul", build("Div", lengths[1], before), build("Softmax", turn, axis=-1))
