"""VisionZip: what the class token looks at, and a few that stand for the rest (CVPR 2025,
arXiv 2412.04467).

    dominant     K - C tokens of largest class attention, summed over heads, as they are
    contextual   C of the others, every (N - K + C) / C-th in raster order; to each is added the
                 mean of those others whose keys (mean over heads) point its way most nearly

Published splits are 54 + 10, 108 + 20 and 162 + 30, so C is 10 / 64 of K (at least one from K = 2
on). The mean is added, not taken in: a contextual token grows about twice as long, which RMSNorm
bears and integer ranges have to be calibrated for. One that is nearest to nobody stays itself.
Published code reads the last layer but one of CLIP, which is the last of an encoder exported up to
there; it puts contextual tokens behind the dominant ones and renumbers, here all keep their places
in ascending order. Its count leaves out the class token, which the connector drops here as well.
Without a class token a mean over patches' queries stands in, noted in the record.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions
from edgevlm.passes.tokens.pieces.bipartite import mean_keys
from edgevlm.passes.tokens.pieces.contextual import share_of, zipped
from edgevlm.passes.tokens.pieces.kernels import unit
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["VisionZip"]


class VisionZipOptions(MethodOptions):
    contextual: float = Field(10 / 64, ge=0, lt=1, description="share of K that is contextual")


class VisionZip(Method):
    name = "visionzip"
    summary = "class attention, and a few tokens that the others are added to"
    paper = "2412.04467"
    lowering = "B"
    sites = ("vision-out", "vision")
    permutation = "order"  # the pool is walked in raster order
    Options = VisionZipOptions

    def choose(self, view: View) -> Choice:
        few = share_of(view.keep, self.options.contextual)
        return zipped(view, view.class_attention(), unit(view, mean_keys(view)), few)
