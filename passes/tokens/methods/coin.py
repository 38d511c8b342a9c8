"""CoIn: informative tokens that cover the rest (CVPR 2026).

    s = beta minmax(|x|) + (1 - beta) minmax(cos(x, t)),  t the mean of the question's words
    maximise (1 - alpha) sum s + alpha log det(F F^T + lambda I), greedily

The gain of the volume is log d_i, by an incremental Cholesky factorisation. How the note's two
terms are brought to one scale at each step is not said; here log d is min-maxed over the tokens
still to be had (R). Features in the volume are of length 1, so that length counts once (R;
`normalised=false` takes them as they are, over the longest). alpha, beta and lambda are not
published (R, .5, .5 and .01). alpha=0 is TopK of s, alpha=1 the plain volume, and neither looks at
what it does not need. Needs the text in view, hence llm:0; depends on the question. Volume means
something up to as many tokens as channels; behind that gains are lambda for all. Not for integer
targets.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import unit_range
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.dpp import max_volume
from edgevlm.passes.tokens.pieces.kernels import scaled, transposed, unit
from edgevlm.passes.tokens.pieces.scores import length
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.pieces.text import text_cosine
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["CoIn"]

FAR = 1e30
LEAST_SPAN = 1e-3  # of log d; what differs by less, rounding may have made


class CoInOptions(MethodOptions):
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the volume (R)")
    beta: float = Field(0.5, ge=0, le=1, description="weight of length against the question (R)")
    ridge: float = Field(0.01, ge=1e-3, le=1, description="lambda of the volume (R)")
    normalised: bool = Field(True, description="features of length 1 in the volume (R)")


class CoIn(Method):
    name = "coin"
    summary = "length and fit to the question, plus the volume spanned, greedy"
    evidence = "R"
    lowering = "D"
    sites = ("llm",)
    text_aware = True
    greedy = True
    stand_in = "dart"
    Options = CoInOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", 0)]

    def pieces(self, view: View) -> Pieces:
        alpha = self.options.alpha
        if alpha == 0:
            return Pieces(select=top, score=self._score)
        score = self._score if alpha < 1 else None
        return Pieces(select=self._select, score=score, kernel=self._volume)

    def _score(self, view: View) -> ir.Value:
        build, beta = view.build, self.options.beta
        terms = [(beta, length), (1 - beta, text_cosine)]
        found = [
            build("Mul", unit_range(build, scorer(view)), view.const(weight))
            for weight, scorer in terms
            if weight
        ]
        return found[0] if len(found) == 1 else build("Add", *found)

    def _volume(self, view: View) -> ir.Value:
        build = view.build
        if self.options.normalised:
            rows = unit(view, view.tokens)
        else:
            rows = scaled(view, view.tokens)
            long = build("ReduceL2", rows, build.const([1]), keepdims=1)
            longest = build("ReduceMax", long, build.const([0, 1]), keepdims=1)
            rows = build("Div", rows, build("Max", longest, view.const(1e-12)))
        gram = build("MatMul", rows, transposed(view, rows))
        return build("Add", gram, view.const(np.eye(view.count) * self.options.ridge))

    def _select(self, view: View, score: ir.Value | None, kernel: ir.Value) -> ir.Value:
        if score is None:
            return max_volume(view, kernel)
        build, alpha = view.build, self.options.alpha
        rest = build("Mul", score, view.const(1 - alpha))

        def worth(view: View, gain: ir.Value, gone: ir.Value) -> ir.Value:
            high = build("ReduceMax", _without(view, gain, gone, -FAR), keepdims=1)
            low = build("ReduceMin", _without(view, gain, gone, FAR), keepdims=1)
            span = build("Max", build("Sub", high, low), view.const(LEAST_SPAN))
            part = build("Div", build("Sub", gain, low), span)
            return build("Add", build("Mul", part, view.const(alpha)), rest)

        return max_volume(view, kernel, worth)


def _without(view: View, gain: ir.Value, gone: ir.Value, value: float) -> ir.Value:
    return view.build("Where", gone, view.const(value), gain)
