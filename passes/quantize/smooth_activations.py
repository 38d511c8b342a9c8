"""Move the burden of a few large channels from activations to weights (SmoothQuant, 2211.10438).

    before: norm(x; g, b) -> MatMul W          after: norm(x; g / s, b / s) -> MatMul (s W)
            a * (h U)     -> MatMul W                 a * (h U / s)         -> MatMul (s W)
            V = h U -> Attention -> MatMul W          V = h U / s -> Attention -> MatMul (s W)

how = smoothquant: s_i = max|x_i|^alpha / max|w_i|^(1 - alpha), of all products that read the value
and over the calibration inputs. how = repq (RepQ-ViT, 2212.08254): s_i is the range of a channel
over the mean range; where a LayerNorm has a bias, the middle of each range moves to 0 as well, and
the products' bias makes up for it: b + W centre, in the Add or Gemm behind them, or in a new Add.
1 / s goes into what makes the value (places.py); so (but for that Add) nothing is added and the
function is the same. `equalise`: also between two linear layers with ReLU or attention between
them. Caches then hold V / s, in prefill and in decode; where they would not agree, nothing is done.
Parts that hold the same weights get the same s, and go on sharing them. Refuses nothing: a value
that something else reads as well, or that nothing can scale for free (behind a GELU, a residual
sum), is left as it is. Expected effect: SQNR of int8 activations some dB higher in language models,
whose channels differ by factors of 100; repq is for vision towers, and costs language models dB.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.watch import watch
from edgevlm.passes.quantize.compensation.one_range import one_range
from edgevlm.passes.quantize.compensation.smoothing import smooth_scale
from edgevlm.passes.quantize.kinds import TEXT, counted, kinds_of
from edgevlm.passes.quantize.places import FREE, Place, agreed, divide, find_places, tied
from edgevlm.passes.quantize.shift import can_shift, shift

__all__ = ["SmoothActivations"]

Range = tuple[np.ndarray, np.ndarray]  # least and largest of each channel


class SmoothActivationsOptions(PassOptions):
    how: Literal["smoothquant", "repq"] = Field(
        "smoothquant", description="meet the weights half-way, or one range for all channels"
    )
    alpha: float = Field(
        0.65, ge=0, le=1, description="smoothquant; 1: all of the burden goes to the weights"
    )
    equalise: bool = Field(
        False, description="also V and output projection, and linear layers with ReLU between"
    )
    tokens: Literal["all", "text"] = Field(
        "all", description="rows of prefill that are looked at, never padding; text: without image"
    )
    parts: tuple[str, ...] = Field((), strict=False, description="roles; none named: all")


class SmoothActivations(Pass):
    name = "smooth-activations"
    summary = "divide large channels of activations, multiply their weights"
    effect = Effect.EXACT
    paper = "2211.10438"
    after = ("fold-constants", "fuse-layer-norm", "keep-tokens", "merge-attention")
    Options = SmoothActivationsOptions
    calibrated = True

    def requires(self, model: ExportedModel) -> None:
        """Raises EV202 for a part that is not there, and where one decoder part goes alone."""
        asked = set(self.options.parts)
        twins = {"prefill", "decode"} & set(model.parts)
        if asked - set(model.parts) or (asked & twins and twins - asked):
            raise UsageFault(
                "EV202",
                f"smooth-activations in parts {', '.join(sorted(asked))}",
                f"this model has {', '.join(model.parts)}; prefill and decode share their weights",
                "edgevlm passes show smooth-activations",
            )

    def run(self, model: ExportedModel) -> PassResult:
        asked = self.options.parts or tuple(model.parts)
        clones = {role: part.clone() for role, part in model.parts.items() if role in asked}
        kinds = (*FREE, "linear", "attention") if self.options.equalise else FREE
        places, notes = agreed(
            {role: find_places(clone.graph, kinds) for role, clone in clones.items()}
        )
        keys = {role: [place.key for place in found] for role, found in places.items()}
        ranges = self._ranges(clones, places, keys)
        scales: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for role, found in places.items():  # before any weight is changed: alike in all parts
            for place, key in zip(found, keys[role], strict=True):
                seen = ranges.get(key)
                if seen is None or not np.isfinite(seen).all():
                    notes.append(Note("skipped", f"{role}/{place.value.name}", "never seen finite"))
                elif key not in scales:
                    scales[key] = self._scale(place, *seen)
        changed = {}
        for role, found in places.items():
            build, counts = GraphBuilder(clones[role], "smooth"), {"smoothed": 0, "centred": 0}
            for place, key in zip(found, keys[role], strict=True):
                scale, centre = scales.get(key, (np.ones(1), np.zeros(1)))
                if centre.any():
                    shift(build, place, centre)
                    counts["centred"] += 1
                if (scale != 1).any():
                    divide(build, place, scale)
                    counts["smoothed"] += 1
            if any(counts.values()):
                build.finish()
                changed[role] = clones[role]
                done = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
                notes.append(Note("matched", role, f"inputs of products: {done}"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def _scale(self, place: Place, low: np.ndarray, high: np.ndarray) -> Range:
        """(s [m], what is taken off each channel first [m])."""
        if self.options.how == "repq":
            shared = -tied(place, -low), tied(place, high)  # by all channels of a column
            scale, centre = one_range(*shared, can_shift(place))
            return scale.astype(np.float32), centre.astype(np.float32)
        top_x = tied(place, np.maximum(np.abs(low), np.abs(high)))
        top_w = tied(place, np.abs(place.rows()).max(0))
        return smooth_scale(top_x, top_w, self.options.alpha).astype(np.float32), np.zeros(1)

    def _ranges(
        self,
        parts: dict[str, ir.Model],
        places: dict[str, list[Place]],
        keys: dict[str, list[str]],
    ) -> dict[str, Range]:
        """By key the range of each channel, over all parts and inputs."""
        ranges: dict[str, Range] = {}
        only = TEXT if self.options.tokens == "text" else None
        for role, found in places.items():
            feeds, kinds = self.observed.fed(role), kinds_of(self.observed, role)
            by_value = {p.value: key for p, key in zip(found, keys[role], strict=True)}

            def see(
                value: ir.Value,
                array: np.ndarray,
                i: int,
                kinds: list[np.ndarray | None] = kinds,
                by: dict[ir.Value, str] = by_value,
            ) -> None:
                rows = counted(array, kinds[i], only)
                if len(rows):
                    low, high = ranges.get(by[value], (np.inf, -np.inf))
                    ranges[by[value]] = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))

            if found and feeds:
                watch(parts[role], list(by_value), feeds, see)
        return ranges
