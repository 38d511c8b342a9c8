"""Information horizon: behind it any choice is as good as chance, or none at all (2512.07580).

The paper measures what single tokens still tell from each layer on: the spread shrinks with depth
and is nothing behind a layer l_h, the horizon. There it takes random tokens, or drops all of them:
the strongest lever a compiler has, because the last layers then run at the length of the text.

    in front of layer l_h: K places drawn from `seed` when compiling; K = 0 lets all image tokens go

l_h belongs to a model and a task (reading lasts longer than yes or no) and is found by a sweep on
calibration data, never on a test split: benchmarks/find_horizon.py prints it. Until then half the
depth is the default. In front of the horizon a real selector may stand as another step of the
recipe. Costs nothing at run time; every picture keeps the same places.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.select import drawn
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["Horizon"]


class HorizonOptions(MethodOptions):
    layer: int | None = Field(None, ge=0, le=9999, description="l_h; half the depth where unset")
    seed: int = Field(0, ge=0, le=2**31, description="of the places")


class Horizon(Method):
    name = "horizon"
    summary = "random places, or none, in front of a deep layer"
    paper = "2512.07580"
    evidence = "N"
    sites = ("llm",)
    permutation = "order"
    Options = HorizonOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        layer = self.options.layer
        return [Site.at("llm", layers // 2 if layer is None else layer)]

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=drawn(self.options.seed))
