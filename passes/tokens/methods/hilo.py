"""Hi-Lo Prune: spread on pixels, then on features; what leaves is read once more first (CVPR 2026).

    coarse   K + .3 N tokens, greedy max-min cosine distance of their pixels, behind the encoder
    fine     K of those, the same on projected features, in front of layer 2: S
    fusion   in the layers before, rows that stay lean towards F = coarse without S:
             A'_ij = A_ij (1 + gain x [softmax(A)_ij > threshold and j in the top `nearest` of i])

The note leaves gain, threshold and nearest open (R: .5, one over the rows, 8; `gain=0` is the two
choices alone). A negative logit gets lower by it; the threshold sees to it that few are. Fusion is
a bias on the logits of the layers in front, exactly the formula; it needs the attention of all rows
there, so those layers cost as unfused ones do. Later words read F in those layers' caches without
it. With one number K, the first site keeps K + .3 N. At vision-out alone it is the coarse choice,
at llm:L alone the fine one, and all that leaves is fused. Refuses a connector that joins neighbours
and pictures that are no whole grid of tokens (at vision-out), and llm:L behind another site of the
language model, where features in front of it have left.
"""

from __future__ import annotations

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.fusion import fuse
from edgevlm.passes.tokens.pieces.greedy import among, max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["HiLo"]


class HiLoOptions(MethodOptions):
    fused: float = Field(0.3, ge=0, le=1, description="tokens beside K that come in, over N")
    gain: float = Field(0.5, ge=0, le=16, description="lambda of the fusion; 0: none (R)")
    threshold: float = Field(0, ge=0, le=1, description="share of attention; 0: 1 / rows (R)")
    nearest: int = Field(8, ge=1, le=4096, description="tokens a row leans towards at most (R)")


class HiLo(Method):
    name = "hilo"
    summary = "spread on pixels, then on features; attention leans towards what leaves"
    evidence = "R"
    lowering = "C"
    sites = ("vision-out", "llm")
    greedy = True
    stand_in = "dart"
    Options = HiLoOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("vision-out"), Site.at("llm", min(2, layers - 1))]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        if len(sites) == 2:
            return [min(count, keep + round(self.options.fused * count)), keep]
        return super().budgets(count, keep, sites)

    def pieces(self, view: View) -> Pieces:
        if view.site.kind == "llm":
            return Pieces(select=self._fine)
        return Pieces(select=max_min(), kernel=lambda view: cosine_distance(view, view.pixels()))

    def _fine(self, view: View, *_: ir.Value | None) -> ir.Value:
        given = view.model.contract.kept_image_tokens
        if view.count != given:
            raise view.missing(
                "the features of all tokens that the language model is given",
                f"{view.count} of {given} are left there; put it in front of other llm sites",
            )
        features = among(view, view.given()[0], view.count, view.keep)
        index = max_min()(features, None, cosine_distance(features))
        if self.options.gain and view.site.depth:
            least = self.options.threshold or 1 / view.rows
            for back in range(1, view.site.depth + 1):
                fuse(view, back, index, self.options.gain, least, self.options.nearest)
            view.note(f"attention leans towards {view.count - view.keep} tokens that leave")
        return index
