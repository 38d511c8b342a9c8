"""DART: least like a few pivots (EMNLP 2025, arXiv 2502.11494), loop-free.

A few pivots (largest L1 norm; four for the image) stay; each then adds an equal share of the tokens
least like it (lowest cosine) that are not taken yet. One [N,D] x [D,P] product and P + 1 small
TopKs, no chain: the first choice for a target without one. For K <= P the K strongest tokens stay.
The paper works in front of layer 2, NVIDIA's port on the input embeddings; both sites are open.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.passes.tokens.keys import ascending, largest, marked
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.kernels import scaled, transposed, unit
from edgevlm.passes.tokens.view import View

__all__ = ["Dart"]


class DartOptions(MethodOptions):
    pivots: int = Field(4, ge=1, le=64, description="tokens of largest L1 norm that stay first")


class Dart(Method):
    name = "dart"
    summary = "least like a few pivots, loop-free"
    paper = "2502.11494"
    evidence = "R"
    lowering = "B"
    sites = ("connector-out", "vision-out", "vision", "llm")
    Options = DartOptions

    def pieces(self, view: View) -> Pieces:
        return Pieces(select=self._select)

    def _select(self, view: View, *_: ir.Value | None) -> ir.Value:
        build, form, count, keep = view.build, view.form, view.count, view.keep
        pivots = min(self.options.pivots, keep)
        flat = scaled(view, view.tokens)
        strength = build("ReduceMean", build("Abs", flat), build.const([1]), keepdims=0)
        pivot = largest(build, form, strength, count, pivots)
        chosen = [pivot]
        if keep > pivots:
            rows = unit(view, view.tokens)
            cosine = build("MatMul", build("Gather", rows, pivot, axis=0), transposed(view, rows))
            taken = marked(build, pivot, count)
            shares = [len(part) for part in np.array_split(np.arange(keep - pivots), pivots)]
            for row, share in enumerate(s for s in shares if s):
                unlike = build("Neg", build("Gather", cosine, build.const(row), axis=0))
                picked = largest(build, form, unlike, count, share, taken)
                chosen.append(picked)
                taken = build("Add", taken, marked(build, picked, count))
        index = chosen[0] if len(chosen) == 1 else build("Concat", *chosen, axis=0)
        return ascending(build, index, keep)
