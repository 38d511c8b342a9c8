"""VLM-Pruner: unlike what is taken, near ones first, in rounds; the dropped blend in (2512.02700).

    pivots   the token of largest |key|_1, then the farthest ones in key space (max-min, L2)
    likeness M_ij = cosine on the channels of the hidden state that vary most between tokens
    rounds   of 16: the largest 1 - (1 + lambda x d_i) max_j M_ij, d_i the distance in the grid to
             the nearest taken token over the diagonal: what is near is taken first (BSS)
    merge    each dropped token goes to the kept one it is most like: .3 kept + .7 weighted mean

In front of decoder layer 2, with the keys (rotated, as cached) of the layer before. Public code
takes a batch only below a threshold that rises by .1 a round and stops when a round adds nothing:
it may return fewer than K. Here rounds are fixed and the threshold is left out, so K are always
taken. Where sites in front dropped tokens, places in the grid are carried on: their choices say
which are left, and positions where the tokens left in another part; with renumbered positions
nothing tells and it is refused. Image tokens do not see the question, so the choice holds for any.
Refuses llm:0.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import ascending, best
from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.dpc import l2_distance
from edgevlm.passes.tokens.pieces.greedy import max_min
from edgevlm.passes.tokens.pieces.kernels import cosine, scaled
from edgevlm.passes.tokens.pieces.merge import blended
from edgevlm.passes.tokens.pieces.rounds import in_rounds, round_sizes
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["VlmPruner"]


class VlmPrunerOptions(MethodOptions):
    pivots: int = Field(4, ge=1, le=64, description="tokens spread in key space, taken first")
    channels: int = Field(256, ge=1, le=65536, description="of largest variance, compared")
    batch: int = Field(16, ge=1, le=4096, description="tokens a round")
    near: float = Field(0.5, ge=0, le=100, description="lambda: weight of the distance; 0: none")
    beta: float = Field(0.3, ge=0, le=1, description="what a token keeps of itself; 1: no merging")


class VlmPruner(Method):
    name = "vlm-pruner"
    summary = "least like what is taken, near ones first, in rounds; the dropped blend in"
    paper = "2512.02700"
    lowering = "C"
    sites = ("llm",)
    permutation = "grid"
    greedy = True
    stand_in = "dart"
    Options = VlmPrunerOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", max(1, min(2, layers - 1)))]

    def choose(self, view: View) -> Choice:
        o, keep = self.options, view.keep
        pivots = min(o.pivots, keep)
        first = self._pivots(replace(view, keep=pivots))
        likeness = cosine(view, self._channels(view))
        rows, columns = view.model.contract.grid
        steps = view.build(
            "Div",
            l2_distance(view, view.coordinates(), view.count),
            view.const(math.hypot(rows, columns)),
        )
        sizes = round_sizes(view, keep - pivots, o.batch, pivots - 1) if keep > pivots else []
        taken = in_rounds(view, first, likeness, steps, o.near, sizes)
        index = ascending(view.build, taken, keep)
        if o.beta == 1 or keep == view.count:
            return Choice(index)
        return Choice(index, blended(o.beta, lambda _: likeness)(view, index, None))

    def _pivots(self, view: View) -> ir.Value:
        """Places [pivots]; `view` asks for so many."""
        build = view.build
        seen = view.attention(1)
        keys = build("Transpose", view.image_rows(seen.k, axis=1), perm=[1, 0, 2])
        flat = build("Reshape", keys, build.const([view.count, seen.heads * seen.head_dim]))
        unit = scaled(view, flat)
        distance = l2_distance(view, unit, view.count)
        peak = build("ReduceMax", distance, build.const([0, 1]), keepdims=0)
        # 0..2, as a cosine distance, is what greedy steps on integers are made for
        even = build("Div", distance, build("Max", peak, view.const(1e-12)))

        def strongest(view: View, _: ir.Value) -> ir.Value:
            length = build("ReduceL1", unit, build.const([1]), keepdims=0)
            return best(build, view.form, length, view.count)

        return max_min(first=strongest)(view, None, build("Mul", even, view.const(2.0)))

    def _channels(self, view: View) -> ir.Value:
        """[N,q]: the channels that vary most between tokens."""
        build, few = view.build, self.options.channels
        tokens = scaled(view, view.tokens)
        if few >= view.width:
            return tokens
        mean = build("ReduceMean", tokens, build.const([0]), keepdims=1)
        off = build("Sub", tokens, mean)
        spread = build("ReduceMean", build("Mul", off, off), build.const([0]), keepdims=0)
        channel = build("TopK", spread, build.const([few]), outputs=2, axis=0)[1]
        return build("Gather", tokens, channel, axis=1)
