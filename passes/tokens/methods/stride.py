"""Every (N/K)th token: place i is floor((i + 0.5) N / K). Costs nothing at run time.

The uniform floor. On a grid whose rows are as long as the stride it keeps a single column, which is
a property of the floor and not of the picture; `grid-max` and `resize` spread in two dimensions.
"""

from __future__ import annotations

from edgevlm.passes.tokens.method import Method, Pieces
from edgevlm.passes.tokens.pieces.select import fixed, spread_index
from edgevlm.passes.tokens.view import View

__all__ = ["Stride"]


class Stride(Method):
    name = "stride"
    summary = "evenly spread places"
    sites = ("connector-out", "vision-out", "vision", "llm")
    permutation = "grid"

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=fixed(spread_index))
