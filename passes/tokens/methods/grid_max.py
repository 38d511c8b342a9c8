"""grid-max: the best token of each of K cells. Spread by the grid, chosen by the picture; no loop.

    the grid is cut into exactly K cells (bands of rows, each cut across);  keep arg max of each

Of each cell the token of largest score stays: the length of its features (`norm`), or what the
class token pays it (`class`, where the site is inside the encoder). One padded [K,M] table of
places and one ArgMax, so it runs where chains of greedy steps do not. No paper: it is the loop-free
stand-in for greedy spreading, and to be reported as a method of its own. Refuses a site behind
another one, where the grid is no longer whole.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.cells import best_of_each, cut_grid
from edgevlm.passes.tokens.pieces.scores import class_attention, length
from edgevlm.passes.tokens.view import View

__all__ = ["GridMax"]


class GridMaxOptions(MethodOptions):
    score: Literal["norm", "class"] = Field(
        "norm", description="L2 of the features, or what the class token pays"
    )


class GridMax(Method):
    name = "grid-max"
    summary = "the strongest token of each of K cells of the grid, loop-free"
    lowering = "A"
    sites = ("connector-out", "vision-out", "vision", "llm")
    permutation = "grid"
    Options = GridMaxOptions

    def pieces(self, view: View) -> Pieces:
        score = class_attention if self.options.score == "class" else length
        return Pieces(select=self._select, score=score)

    def _select(self, view: View, score: ir.Value, _: ir.Value | None) -> ir.Value:
        return best_of_each(view, score, cut_grid(*view.grid(), view.keep))
