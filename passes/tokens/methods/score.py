"""SCoRe: salience times coverage (CVPR 2026).

The first token is the one the class token looks at most; each next one maximises
w^alpha x (cosine distance to what is taken), a greedy weighted k-centre. alpha -> 0 is farthest
point sampling, alpha -> infinity is TopK of the salience; the paper takes 0.8, flat on 0.7..0.9.
Without a class token a mean over patches' queries stands in, noted in the record.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.greedy import max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.pieces.scores import class_attention, raised
from edgevlm.passes.tokens.view import View

__all__ = ["Score"]


class ScoreOptions(MethodOptions):
    alpha: float = Field(0.8, ge=0, le=16, description="power of the salience")


class Score(Method):
    name = "score"
    summary = "class attention times distance, greedy"
    evidence = "N"
    lowering = "C"
    sites = ("vision-out", "vision")
    greedy = True
    stand_in = "dart"
    Options = ScoreOptions

    def pieces(self, view: View) -> Pieces:
        weight = raised(class_attention, self.options.alpha)
        return Pieces(select=max_min(weight), kernel=cosine_distance)
