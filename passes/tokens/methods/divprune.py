"""DivPrune: the K tokens that are farthest apart (CVPR 2025, arXiv 2503.02175).

Greedy max-min in cosine distance, started at the token whose nearest neighbour is farthest. Needs
nothing but features. O(N^2 D + K N); K - 1 dependent steps. Public code renumbers positions; here
they stay. Cosine distance is no metric, so the factor-two bound of k-centre does not hold.
"""

from __future__ import annotations

from edgevlm.passes.tokens.method import Method, Pieces
from edgevlm.passes.tokens.pieces.greedy import max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.view import View

__all__ = ["DivPrune"]


class DivPrune(Method):
    name = "divprune"
    summary = "greedy max-min cosine distance"
    paper = "2503.02175"
    lowering = "C"
    sites = ("connector-out", "vision-out", "vision", "llm")
    greedy = True
    stand_in = "dart"

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=max_min(), kernel=cosine_distance)
