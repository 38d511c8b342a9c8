"""Prune2Drive: farthest-point sampling in each camera view, a budget a view (arXiv 2508.13305).

    each view keeps its own share of K by greedy max-min cosine distance (T-FPS, as DivPrune)

A picture of several cameras is one grid of tokens here: `views` equal bands of rows, in the order
of the tokens (`by=rows`), or of columns (`by=columns`). `shares` are theirs, 0.5:0.25:0.25 for
three; they become whole numbers with sum K when compiling, by largest remainder, and what a view is
too small for goes to the others. The paper finds shares by TPE on 500 samples, front views getting
more; `pieces/budget_search.py` is a plain search of that kind for any objective. The first token of
a view is the most isolated one, as in the code (the paper says random). Public code prunes in front
of layer 1 with equal shares. Chains of the views do not wait for each other. One view is DivPrune.
Refuses a site behind another one, where the grid is no longer whole.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field, model_validator

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keys import ascending
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.greedy import among, max_min
from edgevlm.passes.tokens.pieces.kernels import cosine_distance
from edgevlm.passes.tokens.pieces.quota import quotas
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["Prune2Drive"]


class Prune2DriveOptions(MethodOptions):
    views: int = Field(1, ge=1, le=64, description="camera views side by side in the picture")
    by: Literal["rows", "columns"] = Field("rows", description="of the grid; how views lie in it")
    shares: str = Field("", max_length=1000, description="s1:s2:..., one a view; empty: all alike")

    @model_validator(mode="after")
    def _one_a_view(self) -> Prune2DriveOptions:
        values = self.each
        if not all(math.isfinite(s) and s >= 0 for s in values) or not any(values):
            raise ValueError("shares are numbers of 0 and more, one of them above 0")
        if len(values) != self.views:
            raise ValueError(f"{len(values)} shares for {self.views} views")
        return self

    @property
    def each(self) -> list[float]:
        """The share of every view."""
        return [float(s) for s in self.shares.split(":")] if self.shares else [1.0] * self.views


class Prune2Drive(Method):
    name = "prune2drive"
    summary = "greedy max-min distance in each camera view, a budget a view"
    paper = "2508.13305"
    lowering = "C"
    sites = ("llm", "connector-out", "vision-out", "vision")
    permutation = "grid"
    greedy = True
    stand_in = "grid-max"
    Options = Prune2DriveOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", min(1, layers - 1))]

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=self._select)

    def _select(self, view: View, *_: ir.Value | None) -> ir.Value:
        build, members = view.build, self._members(*view.grid())
        budgets = quotas(view.keep, self.options.each, [len(m) for m in members])
        if len(members) > 1:
            view.note(f"tokens of each view: {', '.join(map(str, budgets))}")
        chosen = []
        for places, keep in zip(members, budgets, strict=True):
            here = build.const(places)
            if 0 < keep < len(places):
                tokens = build("Gather", view.tokens, here, axis=0)
                part = among(view, tokens, len(places), keep)
                index = max_min()(part, None, cosine_distance(part))
                here = build("Gather", here, index, axis=0)
            if keep:
                chosen.append(here)
        index = chosen[0] if len(chosen) == 1 else build("Concat", *chosen, axis=0)
        return ascending(build, index, view.keep)

    def _members(self, rows: int, columns: int) -> list[np.ndarray]:
        """Places of each view; the first views are larger by a row or column where it is uneven."""
        views, columnwise = self.options.views, self.options.by == "columns"
        lattice = np.arange(rows * columns).reshape(rows, columns)
        longest = columns if columnwise else rows * columns
        if views > longest:
            raise UsageFault(
                "EV202",
                f"{views} views for method prune2drive",
                f"the grid has {rows} x {columns} tokens",
                f"at most {longest} views",
            )
        if columnwise:
            return [
                part.reshape(-1) for part in np.array_split(lattice, self.options.views, axis=1)
            ]
        return np.array_split(lattice.reshape(-1), self.options.views)
