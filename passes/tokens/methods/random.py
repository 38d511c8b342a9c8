"""Random tokens: the floor every method is held against (test T11).

A permutation is drawn from `seed` when compiling; its first K places, ascending, are a constant of
the graph. Nothing is computed at run time and every picture keeps the same places. One seed is no
result: quote the mean and spread of several. In deep layers, behind the information horizon, it is
the selector to take (see horizon).
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.select import drawn
from edgevlm.passes.tokens.view import View

__all__ = ["Random"]


class RandomOptions(MethodOptions):
    seed: int = Field(0, ge=0, le=2**31, description="of the permutation")


class Random(Method):
    name = "random"
    summary = "places drawn from a seed when compiling"
    sites = ("connector-out", "vision-out", "vision", "llm")
    permutation = "order"
    Options = RandomOptions

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=drawn(self.options.seed))
