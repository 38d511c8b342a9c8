"""Scale weights up where their inputs are large, before they are rounded (AWQ, 2306.00978).

    before: norm(x; g, b) -> MatMul W           after: norm(x; g / s, b / s) -> MatMul (s W)
            V = h U -> Attention -> MatMul W           V = h U / s -> Attention -> MatMul (s W)

s = t / sqrt(max t min t), t_i = max|x_i|^r; of 20 exponents r that with the least error of what the
products give, their weights rounded as quantize-weights is going to (scales by max in the search,
whatever fits them later). At the places of smooth-activations (places.py); nothing is added, the
function is the same. r = 0 is among the 20: by its own measure the scale is never worse than none.

tokens = qig: an error counts by its integrated gradient (QIG, 2603.17809). The paper integrates
through a whole transformer block; this does through the group of products that read the value, in
closed form, because torch is no part of the base install (compensation/token_weights.py). Padding
never counts; special = false leaves out class and register rows, whose huge norms would choose the
scale (QVGGT, 2605.31124): the rows that stand in front of the patches in the vision part. A few
hundred rows a place are looked at, of one place at a time; weights that parts share are scaled by
what the first of them sees. Refuses nothing. Expected effect: some dB of the layers at 4 bits and
fewer where channels differ; with blocks and GPTQ behind it, little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.contract import Role
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.passes.quantize.compensation.smoothing import awq_scale
from edgevlm.passes.quantize.compensation.token_weights import token_weights
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale
from edgevlm.passes.quantize.kinds import counted, kinds_of
from edgevlm.passes.quantize.places import FREE, Place, agreed, divide, find_places, tied
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.special import special_rows
from edgevlm.passes.quantize.walk import Walk

__all__ = ["ScaleWeights"]

SAMPLE = 512  # rows of a place


class ScaleWeightsOptions(PassOptions):
    bits: int = Field(4, ge=2, le=8, description="of weights, as quantize-weights will have it")
    block: int = Field(32, ge=0, le=4096, description="inputs that share a scale; 0: a whole row")
    activation_bits: Literal[0, 8] = Field(0, description="of inputs, a scale a tensor; 0: float")
    tokens: Literal["all", "qig"] = Field("all", description="count alike, or by their gradients")
    special: bool = Field(True, description="class and register rows of a vision part count")
    equalise: bool = Field(False, description="also V and output projection, and through ReLU")


class ScaleWeights(Pass):
    name = "scale-weights"
    summary = "scale weights up where their inputs are large, before rounding"
    effect = Effect.EXACT
    paper = "2306.00978"
    after = (
        "fold-constants",
        "fuse-layer-norm",
        "keep-tokens",
        "merge-attention",
        "smooth-activations",
    )
    Options = ScaleWeightsOptions
    calibrated = True

    def run(self, model: ExportedModel) -> PassResult:
        kinds = (*FREE, "linear", "attention") if self.options.equalise else FREE
        clones = {role: part.clone() for role, part in model.parts.items()}
        places, notes = agreed(
            {role: find_places(clone.graph, kinds) for role, clone in clones.items()}
        )
        scales: dict[str, np.ndarray] = {}
        for role, found in places.items():  # before any weight is changed: alike in all parts
            notes += self._search(role, clones[role], found, scales)
        changed = {}
        for role, found in places.items():
            build, count = GraphBuilder(clones[role], "scale_weights"), 0
            for place, key in [(place, place.key) for place in found]:
                scale = scales.get(key)
                if scale is not None and (scale != 1).any():
                    divide(build, place, scale)
                    count += 1
            if count:
                build.finish()
                changed[role] = clones[role]
                notes.append(Note("matched", role, f"{count} of {len(found)} inputs scaled"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def _search(
        self, role: Role, part: ir.Model, places: list[Place], scales: dict[str, np.ndarray]
    ) -> list[Note]:
        """Adds the scales of a part's places, one after the other; what was not seen is noted."""
        walk = Walk(part, self.observed.fed(role))
        kinds = kinds_of(self.observed, role)
        first = 0 if self.options.special or role != "vision" else special_rows(part.graph)
        notes = []
        for place in places:
            if place.key in scales:
                continue
            walk.to(place.products[0])
            arrays = walk.inputs(place.value)
            rows = [_without(x, kind, first) for x, kind in zip(arrays, kinds, strict=True)]
            x = _sample(rows, int(place.value.shape[-1]))
            if not len(x) or not np.isfinite(x).all():
                notes.append(Note("skipped", f"{role}/{place.value.name}", "never seen finite"))
                continue
            scales[place.key] = self._scale(place, x)
        return notes

    def _scale(self, place: Place, x: np.ndarray) -> np.ndarray:
        weights, options = np.asarray(place.rows(), np.float64), self.options
        grid = Grid(options.bits)
        inputs = _by_tensor(options.activation_bits)

        def rounded(w: np.ndarray) -> np.ndarray:
            return to_nearest(w, grid, options.block, "max").weights()

        share = None
        if options.tokens == "qig":
            start = inputs(x) if options.activation_bits else None
            share = token_weights(weights - rounded(weights), x, start)
        scale, _ = awq_scale(weights, x, rounded, share, inputs, lambda top: tied(place, top))
        return scale.astype(np.float32)


def _without(x: np.ndarray, kinds: np.ndarray | None, first: int) -> np.ndarray:
    """Rows [T,m] without padding, and without `first` rows in front of the patches."""
    rows = counted(x, kinds)
    return rows[first:] if kinds is None and len(rows) > first else rows


def _sample(rows: list[np.ndarray], width: int) -> np.ndarray:
    """Some hundred of all rows, evenly spread; float64 [T,m]."""
    each = np.concatenate([*rows, np.zeros((0, width), np.float32)])
    count = min(SAMPLE, len(each))
    picked = ((np.arange(count) + 0.5) * len(each) / max(1, count)).astype(np.int64)
    return each[picked].astype(np.float64)


def _by_tensor(bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """As quantize-activations rounds: one scale, by the largest."""
    if not bits:
        return lambda x: x

    def rounded(x: np.ndarray) -> np.ndarray:
        row = x.reshape(1, -1)
        scale = fit_scale(row, Grid(bits), "max")
        return (codes(row, scale, Grid(bits)) * scale[0]).reshape(x.shape)

    return rounded
