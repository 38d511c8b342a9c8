"""HAWK: what the question's mean query finds in each head, before any layer (arXiv 2604.07812).

    c_h = q_h K_h^T / sqrt(d),  q_h the mean over words;   s = sum_h w_h c_h / |c_h|;   keep TopK(s)

In front of the first layer, with its norm and its projections of q and k but no rotary embedding:
there the stream holds no positions yet, and the score is a match of contents alone. No softmax
stands between, so words are averaged first (exact, checked in the tests). Public code divides each
head's row by its L2 norm over the image tokens, which the paper's text leaves out. Head weights
come from an offline ablation of each head; without them all weigh alike, the honest control.
The cheapest choice that knows the question; for the same reason it holds for one question only.
Refuses other layers (their heads were trained on rotated q and k of a stream that knows positions,
so the product without rotation is nothing they compute) and models whose rotation is no
RotaryEmbedding node. Positions stay; public code keeps them too.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from pydantic import Field, field_validator

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.scores import weighed
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View

__all__ = ["Hawk"]


class HawkOptions(MethodOptions):
    weights: str = Field(
        "", max_length=2000, description="w1:w2:..., one a head of layer 0; empty: all alike"
    )

    @field_validator("weights")
    @classmethod
    def _numbers(cls, text: str) -> str:
        values = [float(each) for each in text.split(":")] if text else []
        if not all(math.isfinite(w) and w >= 0 for w in values) or (values and not any(values)):
            raise ValueError("weights are numbers of 0 and more, one of them above 0")
        return text


class Hawk(Method):
    name = "hawk"
    summary = "the question's mean query against each token, in the first layer's heads"
    paper = "2604.07812"
    sites = ("llm",)
    text_aware = True
    stand_in = "dart"
    Options = HawkOptions

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        return [Site.at("llm", 0)]

    def pieces(self, view: View) -> Pieces:
        if view.site.depth:
            raise view.missing(
                "q and k in which positions play no part",
                "the product of q and k without their rotation is nothing a head behind the first "
                "layer computes; it works at llm:0",
            )
        return Pieces(select=top, score=self._score)

    def _score(self, view: View) -> ir.Value:
        build, seen, words = view.build, view.projected(0), view.text_rows()
        queries = build("Gather", seen.q, words.rows, axis=1)  # [heads,T,d]
        mean = build("Unsqueeze", weighed(view, queries, words.mask), build.const([1]))
        keys = build("Transpose", view.image_rows(seen.k, axis=1), perm=[0, 2, 1])
        match = build("Mul", build("MatMul", mean, keys), view.const(seen.scale))  # [heads,1,N]
        length = build("ReduceL2", match, build.const([2]), keepdims=1)
        unit = build("Div", match, build("Max", length, view.const(1e-12)))
        weight = view.const(self._weights(seen.heads).reshape(-1, 1, 1))
        return build("ReduceSum", build("Mul", unit, weight), build.const([0, 1]), keepdims=0)

    def _weights(self, heads: int) -> np.ndarray:
        """float32 [heads], summing to 1."""
        text = self.options.weights
        given = np.array([float(w) for w in text.split(":")]) if text else np.ones(heads)
        if len(given) != heads:
            raise UsageFault(
                "EV202",
                f"{len(given)} head weights for method hawk",
                f"the first layer of this model has {heads} heads",
                "give one weight a head, or none: all weigh alike then",
            )
        return (given / given.sum()).astype(np.float32)
