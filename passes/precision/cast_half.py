"""Compute in float16, and in float32 where the numbers ask for it, with a Cast at every border.

    before: x -> MatMul(W) -> Add(r) -> ...              all float32
    after:  x -> Cast -> MatMul(W16) -> Cast -> Add(r)   where r is too large for 16 bits

A GPU multiplies float16 two to four times as fast as float32, and TensorRT joins attention into one
kernel in float16 alone. A strongly typed network computes in the types of its tensors, so every
node must have inputs of one type: that is what the casts are for. What stays float32 (stays.py):

    large      an input or output was seen above 65504 / headroom on the calibration inputs, as the
               residual stream of some decoders is from its first layers on
    deciding   nothing of it reaches an output but through an index: scores of tokens, of classes.
               Two scores that float16 makes equal would be another choice
    angle      what sines and cosines are taken of: positions times frequencies
    constant   a number that float16 has not: -1e9 of a mask, 1e-12 under a root
    op         ONNX knows it for float32 only

Normalisations take and give float16 and sum in float32 (`stash_type`). Caches become float16, half
the bytes a decode step reads; other ports of a part stay float32. Last of all passes: what others
fit and compare is float32. Class: a target with float16 products that adds in float32. Expected
effect: SQNR of 50 to 70 dB a part.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.mixed_types import check_types
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.quantised import rounds_activations
from edgevlm.passes.precision.rewrite import in_half
from edgevlm.passes.precision.stays import Why, seen_above, stay_float

__all__ = ["CastHalf"]

SHOWN = 3  # nodes of a reason that are named
#: dB; where numbers are rounded to codes already, a last place more or less is another code
ROUNDED_FLOOR_DB = 10.0


class CastHalfOptions(PassOptions):
    headroom: float = Field(
        8.0, ge=1, le=1024, description="what may come in use may be this many times what was seen"
    )
    cache: bool = Field(True, description="KV caches that are float32 become float16")


class CastHalf(Pass):
    name = "cast-half"
    summary = "float16 arithmetic, float32 where the numbers ask for it"
    effect = Effect.APPROXIMATE
    after = (
        "keep-tokens",
        "merge-attention",
        "narrow-encoder",
        "recover-encoder",
        "palettise-weights",
        "quantize-weights",
        "quantize-activations",
        "quantize-dynamically",
        "quantize-kv",
    )
    Options = CastHalfOptions
    calibrated = True
    floor_db = 25.0

    def run(self, model: ExportedModel) -> PassResult:
        if any(map(rounds_activations, model.parts.values())):
            self.floor_db = ROUNDED_FLOOR_DB
        clones = {role: part.clone() for role, part in model.parts.items()}
        large = {
            role: seen_above(part, self.observed.fed(role), self.options.headroom)
            for role, part in clones.items()
        }
        contract, notes = self._caches(model, clones, large)
        changed = {}
        for role, clone in clones.items():
            stays = stay_float(clone, large[role])
            if in_half(clone, set(stays), _half_ports(contract, role)):
                changed[role] = clone
            notes += _notes(role, clone, stays)
        return PassResult(model.with_parts(contract, **changed), bool(changed), tuple(notes))

    def _caches(
        self, model: ExportedModel, parts: Mapping[str, ir.Model], large: Mapping[str, set]
    ) -> tuple[Contract, list[Note]]:
        """With caches of float16, where what they hold fits."""
        contract = model.contract
        if not self.options.cache or contract.kind != "vlm" or contract.kv_dtype != "FLOAT":
            return contract, []
        half = contract.model_copy(update={"kv_dtype": "FLOAT16"})
        for role, part in parts.items():
            ports, known = _half_ports(half, role), large[role]
            for value in (*part.graph.inputs, *part.graph.outputs):
                if value.name in ports and value in known:
                    why = f"KV caches stay float32: {Why.LARGE.value}"
                    return contract, [Note("skipped", f"{role}: {value.name}", why)]
        return half, []

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """No node has inputs of two types where it takes one."""
        for role, part in after.parts.items():
            check_types(role, part)


def _half_ports(contract: Contract, role: str) -> set[str]:
    ports = (*contract.inputs(role), *contract.outputs(role))
    return {port.name for port in ports if port.dtype == "FLOAT16"}


def _notes(role: str, part: ir.Model, stays: dict[ir.Node, Why]) -> list[Note]:
    whole = sum(any(v.dtype == ir.DataType.FLOAT16 for v in n.outputs) for n in part.graph)
    notes = [Note("matched", role, f"{whole} nodes in float16")]
    for why in Why:
        names = [str(node.name) for node, reason in stays.items() if reason is why]
        if names:
            more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
            shown = ", ".join(names[:SHOWN]) + more
            notes.append(Note("skipped", f"{role}: {shown}", f"float32: {why.value}"))
    return notes
