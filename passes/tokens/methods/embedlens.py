"""EmbedLens filter: leave out tokens that say the same whatever the picture (arXiv 2603.00510).

    prototypes   s_i = - max_p cos(x_i, p),  p the directions of sink and dead tokens (R)
    vocabulary   s_i = (cosine of the third nearest word) - (cosine of the nearest marker word)

The paper finds about a tenth of projected tokens to be sinks, much the same in every picture, and
three tenths dead. Its code drops a token if one of three marker words (of LLaVA-1.5-7B: 30296 dead,
26673 and 1141 sinks) is among its three nearest rows of the word embedding table; other models have
other markers, which nobody has published, so `rule=vocabulary` wants `markers`. It also costs a
product with the whole table, which the connector then holds as well. By default prototypes are
found when compiling instead: the model's own probe pictures go through encoder and connector, and
what they have in common is clustered (`pieces/prototypes.py`); the record says what was found. A
threshold becomes the budget K: the K tokens least like a prototype stay. A handful of probes is few
pictures; more (`--probes`) make better prototypes. Refuses pictures with nothing in common.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field, model_validator

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.passes.tokens.method import Method, MethodOptions, Pieces
from edgevlm.passes.tokens.pieces.kernels import unit
from edgevlm.passes.tokens.pieces.prototypes import find_prototypes
from edgevlm.passes.tokens.pieces.select import top
from edgevlm.passes.tokens.pieces.vocabulary import word_rows
from edgevlm.passes.tokens.view import View

__all__ = ["EmbedLens"]


class EmbedLensOptions(MethodOptions):
    rule: Literal["prototypes", "vocabulary"] = Field("prototypes", description="the code: latter")
    sinks: int = Field(7, ge=0, le=63, description="sink directions at most (R)")
    sink: float = Field(0.99, gt=0, lt=1, description="cosine in a sink's cluster")
    dead: float = Field(0.9, gt=0, lt=1, description="cosine in a dead cluster (R)")
    markers: str = Field("", max_length=1000, description="id1:id2:... of words; of vocabulary")
    nearest: int = Field(3, ge=1, le=64, description="words a marker must be among; of vocabulary")

    @model_validator(mode="after")
    def _needs_markers(self) -> EmbedLensOptions:
        if self.rule == "vocabulary" and not self.words:
            raise ValueError("rule=vocabulary needs markers=id1:id2:..., words of this model")
        if any(word < 0 for word in self.words):
            raise ValueError("markers are word ids of 0 and more")
        return self

    @property
    def words(self) -> list[int]:
        """Ids of the marker words."""
        return [int(word) for word in self.markers.split(":")] if self.markers else []


class EmbedLens(Method):
    name = "embedlens"
    summary = "least like what sink and dead tokens have in common, loop-free"
    paper = "2603.00510"
    evidence = "R"
    lowering = "B"
    sites = ("connector-out",)
    calibrated = True
    Options = EmbedLensOptions

    def pieces(self, view: View) -> Pieces:
        by_words = self.options.rule == "vocabulary"
        return Pieces(select=top, score=self._by_words if by_words else self._by_prototypes)

    def _by_prototypes(self, view: View) -> ir.Value:
        build, o = view.build, self.options
        found = find_prototypes(self._pictures(view), o.sinks, o.sink, o.dead)
        if not found:
            raise view.missing(
                "tokens that the probe pictures have in common",
                f"none is nearer than {o.dead} to tokens of another picture; lower dead=, or give "
                "more pictures with --probes",
            )
        for each in found:
            view.note(f"{each.kind}: {each.tokens} probe tokens, in {each.pictures} pictures")
        directions = view.const(np.stack([each.direction for each in found], 1))  # [D,P]
        match = build("MatMul", unit(view, view.tokens), directions)
        return build("Neg", build("ReduceMax", match, build.const([1]), keepdims=0))

    def _pictures(self, view: View) -> np.ndarray:
        """float32 [P,N,D]: projected tokens of the probe pictures, each picture once."""
        seen = self.calibration
        feeds = seen.fed("connector") if seen else []
        parts = ReferenceParts(view.model.parts)
        embeds = [parts.call("connector", each)["image_embeds"] for each in feeds]
        pictures = np.unique(np.concatenate(embeds), axis=0) if embeds else []
        if len(pictures) < 2:
            raise view.missing(
                "two different pictures that the model was observed on",
                f"there are {len(pictures)}; `compile` hands on what it observes on the probes",
            )
        return pictures

    def _by_words(self, view: View) -> ir.Value:
        build, o, table = view.build, self.options, word_rows(view.model)
        if max(o.words) >= len(table):
            raise UsageFault(
                "EV202",
                f"marker {max(o.words)} for method embedlens",
                f"this model knows {len(table)} words",
                "markers are word ids of this model's tokenizer",
            )
        near = build("MatMul", unit(view, view.tokens), view.const(table.T))  # [N,V]
        few = build("TopK", near, build.const([min(o.nearest, len(table))]), outputs=2, axis=1)[0]
        last = build("ReduceMin", few, build.const([1]), keepdims=0)
        marked = build("Gather", near, build.const(o.words), axis=1)
        return build("Sub", last, build("ReduceMax", marked, build.const([1]), keepdims=0))
