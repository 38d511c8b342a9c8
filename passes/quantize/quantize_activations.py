"""Give products with rounded weights 8-bit inputs: one static scale a tensor, no zero point.

    before: MatMul(x, Deq(Wq, s))      after: MatMul(Deq(Quant(x, t), t), Deq(Wq, s))

Weights of 2 to 8 bits, a scale an output channel; where a block of inputs has a scale of its own,
the sum is not one of integers, and the product is left as it is. t comes from a histogram of |x|
over the calibration inputs (ranges.py says how), in [-127, 127]. A value that several products
read is quantised once. Which products, whether both of attention's (then written out), and whether
the residual stream (int16), is a table by target: forms.py. What comes out stays float: the sum of
an int8 product is exact in int32, and rounding it again would only cost accuracy. Behind
quantize-weights, whose float weights it leaves alone; a tensor that is NaN or never seen is skipped
and said so. Inputs are watched a few at a time, each batch let go before the next. Padding rows of
a prompt count for nothing. number = e4m3: FP8 for products with FP8 weights, t = range / 448; what
lies beyond saturates, as QuantizeLinear does by default. Class: what the target must have is an
int8 product with int32 sums, or an FP8 one with float32 sums. Expected effect: products 2 to 3
times as fast where int8 dot products exist; SQNR of a layer about 30 dB. Steps of FP8 grow with the
numbers, so that a range too wide costs it nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field, model_validator

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.compiler.watch import watch
from edgevlm.passes.quantize.forms import find_integer_form
from edgevlm.passes.quantize.grids import AnyGrid, Grid, grid_of
from edgevlm.passes.quantize.histogram import Histogram
from edgevlm.passes.quantize.kinds import counted, kinds_of
from edgevlm.passes.quantize.ranges import activation_scale
from edgevlm.passes.quantize.scheme import Number
from edgevlm.passes.quantize.sites import KINDS, Site, find_sites

__all__ = ["QuantizeActivations"]


class QuantizeActivationsOptions(PassOptions):
    range: Literal["mse", "max", "percentile", "entropy"] = Field(
        "max", description="how far a scale reaches"
    )
    percentile: float = Field(99.99, gt=50, le=100, description="of |x|, for that range")
    form: str = Field("ort", description="what the target runs in integers")
    number: Number = Field("int", description="int8, or FP8 E4M3 where weights are that, too")
    parts: tuple[str, ...] = Field(
        (), strict=False, description="roles; none named: all that have such weights"
    )

    @model_validator(mode="after")
    def _fits(self) -> QuantizeActivationsOptions:
        if self.number == "e4m3" and self.range == "entropy":
            raise ValueError("entropy counts equal steps, which e4m3 has not")
        return self


class QuantizeActivations(Pass):
    name = "quantize-activations"
    summary = "static int8 or FP8 inputs for products with such weights, one scale a tensor"
    effect = Effect.APPROXIMATE
    after = ("keep-tokens", "merge-attention", "quantize-weights", "compensate-modalities")
    Options = QuantizeActivationsOptions
    floor_db = 8.0  # of the worst probe: one question may hang on what all others do without
    calibrated = True

    def requires(self, model: ExportedModel) -> None:
        find_integer_form(self.options.form)
        unknown = sorted(set(self.options.parts) - set(model.parts))
        if unknown:
            raise UsageFault(
                "EV202",
                f"quantize-activations in part {unknown[0]}",
                f"this model has {', '.join(model.parts)}",
                "edgevlm passes show quantize-activations",
            )

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes, options = {}, [], self.options
        for role, part in model.parts.items():
            if options.parts and role not in options.parts:
                continue
            feeds = self.observed.fed(role)
            clone, sites = find_sites(part, find_integer_form(options.form), options.number)
            if not sites or not feeds:
                continue
            scales = self._scales(clone, sites, feeds, kinds_of(self.observed, role))
            build, count = GraphBuilder(clone, "quantize_activations"), 0
            for site in sites:
                scale = scales[site.value]
                if isinstance(scale, str):
                    notes.append(Note("skipped", f"{role}/{site.value.name}", scale))
                    continue
                _insert(build, site, scale, options.number)
                count += 1
            if count:
                build.finish()
                changed[role] = clone
                why = f"{_summary(sites, options.number)}, ranges of {len(feeds)} runs"
                notes.append(Note("matched", role, why))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Nothing has a zero point."""
        check_symmetric(after)

    def _scales(
        self,
        part: ir.Model,
        sites: list[Site],
        feeds: list[Feeds],
        kinds: list[np.ndarray | None],
    ) -> dict[ir.Value, float | str]:
        """Of each value its scale, or why it has none."""
        seen = {site.value: Histogram() for site in sites}
        watch(part, list(seen), feeds, lambda v, x, i: seen[v].add(counted(x, kinds[i])))
        return {site.value: self._scale(seen[site.value], self._grid(site)) for site in sites}

    def _grid(self, site: Site) -> AnyGrid:
        return grid_of(self.options.number) if site.bits == 8 else Grid(site.bits)

    def _scale(self, seen: Histogram, grid: AnyGrid) -> float | str:
        try:
            return activation_scale(seen, grid, self.options.range, self.options.percentile)
        except ValueError as error:
            return str(error)


def _insert(build: GraphBuilder, site: Site, scale: float, number: Number) -> None:
    eight = ir.DataType.FLOAT8E4M3FN if number == "e4m3" else ir.DataType.INT8
    kind = eight if site.bits == 8 else ir.DataType.INT16
    step = build.const(scale, np.float32)
    stored = build("QuantizeLinear", site.value, step, output_dtype=int(kind))
    for user, position in site.users:  # each its own: tools fuse a product with what it alone reads
        user.replace_input_with(position, build("DequantizeLinear", stored, step))


def _summary(sites: list[Site], number: Number) -> str:
    word = "int8" if number == "int" else number
    users = {kind: sum(len(s.users) for s in sites if s.kind == kind) for kind in KINDS}
    return ", ".join(f"{n} {KINDS[kind].format(word)}" for kind, n in users.items() if n)
