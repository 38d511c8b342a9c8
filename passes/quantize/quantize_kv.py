"""Keep KV caches as int8: one static scale a kv head and layer, keys and values apart.

    prefill   before: key_i ------------> Attention    after: key_i ------------> Attention
                      key_i -> (cache)                        key_i -> Quant(s) -> (cache, int8)
    decode    before: past_key_i -> Concat(key_i)      after: past_key_i -> Deq(s) -> Concat(key_i)
                      key_i -> (cache)                        key_i -> Quant(s) -> (cache, int8)

Symmetric, no zero point, the same scale on both sides and so a code means one number wherever it is
read. Keys are cached behind their rotation, and that is what a scale is fitted to: all rows that
calibration inputs bring into the cache, from prefill (its padding, which nobody reads, left out)
and from every step of decode. Both parts attend to rows that they have just computed as float: in
prefill all rows are, so a token of decode sees itself as it would there, and only the past is
rounded. Refuses a model without a decoder, and a cache whose rows were never seen or are not
finite: all caches have one type. Works with pruned layers. Expected effect: a quarter of the bytes,
caches at 35 dB; decode some per cent slower where int8 must be made float for attention.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.narrow_cache import cache_scales, rows_read
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.histogram import Histogram
from edgevlm.passes.quantize.ranges import activation_scale

__all__ = ["QuantizeKv"]

INT8 = ir.DataType.INT8
HEADS = 1  # dimension of a cache


class QuantizeKvOptions(PassOptions):
    range: Literal["max", "percentile", "mse"] = Field("max", description="how far a scale reaches")
    percentile: float = Field(99.99, gt=50, le=100, description="of |x|, for that range")
    headroom: float = Field(
        1.0, ge=1, le=4, description="times the range, for rows larger than all that were seen"
    )


class QuantizeKv(Pass):
    name = "quantize-kv"
    summary = "int8 KV caches, one scale a kv head and layer, no zero point"
    effect = Effect.APPROXIMATE
    after = (
        "resize-image",
        "keep-tokens",
        "merge-attention",
        "smooth-activations",
        "palettise-weights",
        "quantize-weights",
        "compensate-modalities",
        "quantize-activations",
    )
    Options = QuantizeKvOptions
    calibrated = True

    def requires(self, model: ExportedModel) -> None:
        if "decode" not in model.parts:
            raise UsageFault(
                "EV220",
                "int8 KV caches of a model without a decoder",
                f"a {model.contract.kind} model has no cache, so it would do nothing",
                "leave out --kv, or quantize-kv in the recipe",
            )

    def run(self, model: ExportedModel) -> PassResult:
        contract = model.contract
        if contract.kv_dtype == "INT8":
            return PassResult(model, False, (Note("skipped", "decode", "caches are int8"),))
        scales = {name: self._scales(name, heads) for name, heads in self._seen(model).items()}
        clones = {role: model.parts[role].clone() for role in ("prefill", "decode")}
        for part in clones.values():
            build = GraphBuilder(part, "quantize_kv")
            for name, scale in scales.items():
                _round_port(build, name, scale)
            build.finish()
        coded = contract.model_copy(update={"kv_dtype": "INT8"})
        runs = len(self.observed.runs("prefill"))
        steps = sum(map(len, self.observed.rows))
        why = (
            f"{len(scales)} caches of {contract.kv_heads} heads, ranges of {runs} prompts and "
            f"{steps} steps of decode; {contract.kv_bytes} -> {coded.kv_bytes} bytes"
        )
        note = Note("matched", "prefill, decode", why)
        return PassResult(model.with_parts(coded, **clones), True, (note,))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Nothing has a zero point, and the sides of a cache have one scale."""
        check_symmetric(after)
        cache_scales(after)

    def _seen(self, model: ExportedModel) -> dict[str, list[Histogram]]:
        """Of every cache and head, all rows that come into it."""
        contract, parts = model.contract, ReferenceParts(model.parts)
        names = {f"{kind}_{i}": i for i in range(contract.layers) for kind in ("key", "value")}
        seen = {name: [Histogram() for _ in range(contract.kv_heads)] for name in names}
        for feeds in self.observed.fed("prefill"):
            out = parts.call("prefill", feeds)
            for name, layer in names.items():
                read = rows_read(contract, layer, feeds)
                _count(seen[name], out[name][:, :, :read])
        for steps in self.observed.rows:
            for row in steps:
                for name in names:
                    _count(seen[name], row[name])
        return seen

    def _scales(self, name: str, heads: list[Histogram]) -> np.ndarray:
        """float32 [heads]. Raises EV240."""
        options = self.options
        try:
            found = [
                activation_scale(head, Grid(8), options.range, options.percentile) for head in heads
            ]
        except ValueError as error:
            raise JobFault(
                "EV240",
                f"the range of KV cache {name} cannot be told",
                f"{error}, and all caches of a model have one type",
                "leave out --kv, or calibrate on other pictures: --calib FOLDER|DATASET[:n]",
            ) from error
        return np.array(found, np.float32) * np.float32(options.headroom)


def _count(heads: list[Histogram], rows: np.ndarray) -> None:
    for head, mine in zip(heads, np.moveaxis(rows, HEADS, 0), strict=True):
        head.add(mine)


def _round_port(build: GraphBuilder, name: str, scale: np.ndarray) -> None:
    """The rows that go out by `name`, and those that come in by `past_name`, become codes."""
    step = build.const(scale, np.float32)
    outputs = build.graph.outputs
    place, row = next((i, v) for i, v in enumerate(outputs) if v.name == name)
    row.name = f"{name}_float"
    code = build("QuantizeLinear", row, step, axis=HEADS, output_dtype=int(INT8))
    code.name, code.shape, code.dtype = name, row.shape, INT8
    outputs[place] = code
    for past in build.graph.inputs:
        if past.name == f"past_{name}":
            users = list(past.uses())
            past.type = ir.TensorType(INT8)  # a clone shares the old one
            known = build("DequantizeLinear", past, step, axis=HEADS)
            for node, at in users:
                node.replace_input_with(at, known)
