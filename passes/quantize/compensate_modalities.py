"""One set of integer weights for text and picture, and what image rows lack added (MASQuant).

    before: MatMul(x, W fp32)        after: text rows   x Deq(Wq)
                                            image rows  (x / r) Deq(Wq) + (x / r) L1 L2

In prefill only: decode has text alone and is what quantize-weights makes of it, as are the weights
of all parts (this pass rounds them in its stead, with its options). Image rows lie together at a
fixed place, so they are sliced out and nothing is selected at run time. W is smoothed for text
(smooth-activations, tokens = "text"); r = sqrt(max|x_image| / max|w|) is what image rows need in
addition (2603.04800; its refinement of scales by Adam is left out: closed form alone). L1 L2 is of
low rank, the best under the covariance of image rows for r W - Deq(Wq), and stays float. r is taken
to the power 0, 1/2 or 1, whichever loses least of text and picture with inputs of
`activation_bits`, which share a scale; 0 where inputs stay float. Inputs of q, k, v, o, gate and
up, those behind a norm or attention; the others are left, as in the paper's code, and rows behind a
site of token reduction too. Refuses a model without prefill, a prompt where words of the question
precede the picture, calibration inputs whose pictures start in different rows, and weights that are
stored already. Expected effect: image rows of a layer 10 to 20 dB better at 4 bits; at 8, some dB
where pictures have outliers in channels of their own, and text too; (m + n) x rank float weights a
product, and their time, in prefill.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.compiler.quantised import check_symmetric, weights_of
from edgevlm.passes.quantize.image_branch import ImageBranch, fit_branch, image_places
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights, QuantizeWeightsOptions
from edgevlm.passes.quantize.walk import Walk

__all__ = ["CompensateModalities"]

SLOT = "{question}"


class CompensateModalitiesOptions(QuantizeWeightsOptions):
    rank: int = Field(32, ge=1, le=1024, description="of the branch of a product")
    activation_bits: Literal[0, 8] = Field(8, description="of inputs, a scale a tensor; 0: float")


class CompensateModalities(Pass):
    name = "compensate-modalities"
    summary = "integer weights fit for text, and a low-rank branch for image rows"
    effect = Effect.APPROXIMATE
    paper = "2603.04800"
    after = (*QuantizeWeights.after, "quantize-weights")
    Options = CompensateModalitiesOptions
    calibrated = True

    @property
    def floor_db(self) -> float:
        return self._rounder.floor_db

    @property
    def _rounder(self) -> QuantizeWeights:
        names = set(QuantizeWeightsOptions.model_fields)
        return QuantizeWeights(**self.options.model_dump(include=names))

    def requires(self, model: ExportedModel) -> None:
        """Raises EV220 where image rows are not at one place, EV205 behind quantize-weights."""
        if "prefill" not in model.parts:
            raise _refused(f"a {model.contract.kind} model has no text beside its pictures")
        template, image = model.processor.template, model.processor.image_token
        if template.find(SLOT) < template.find(image):
            raise _refused("the question stands in front of the picture, which starts anywhere")
        if any(weights_of(node) is not None for node in model.parts["prefill"].graph):
            raise UsageFault(
                "EV205",
                "compensate-modalities behind quantize-weights",
                "what weights lack cannot be told once they are rounded; it rounds them itself",
                "leave quantize-weights out, and give its options to compensate-modalities",
            )

    def run(self, model: ExportedModel) -> PassResult:
        starts = set(self.observed.starts)
        if len(starts) != 1:
            raise _refused(f"pictures of the calibration inputs start in rows {sorted(starts)}")
        rounder = self._rounder
        rounder.calibration = self.calibration
        result = rounder.run(model)
        notes = list(result.notes)
        if result.model.parts["prefill"] is model.parts["prefill"]:
            return result
        part = result.model.parts["prefill"]  # a clone of this very pass
        first = starts.pop()
        span = first, first + model.contract.kept_image_tokens
        count, skipped = self._mend(model, part, span)
        notes += skipped
        notes.append(Note("matched", "prefill", f"branches for image rows at {count} products"))
        return PassResult(result.model, True, tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """No zero point in any quantisation node."""
        check_symmetric(after)

    def _mend(
        self, model: ExportedModel, part: ir.Model, span: tuple[int, int]
    ) -> tuple[int, list[Note]]:
        """Adds branches, input by input in the order in which they are computed."""
        real = {str(node.outputs[0].name): node for node in model.parts["prefill"].graph}
        feeds = self.observed.fed("prefill")
        places, notes = image_places(part.graph, model.contract.prefill_length)
        walk, branch, count = Walk(part, feeds), ImageBranch(part, span), 0
        for value, products in places.items():
            walk.to(products[0])
            rows = [x.reshape(-1, x.shape[-1]) for x in walk.inputs(value)]
            last = [int(f["last_index"][0]) + 1 for f in feeds]
            if not all(np.isfinite(x).all() for x in rows):
                notes.append(Note("skipped", f"prefill/{value.name}", "never seen finite"))
                continue
            image = np.concatenate([x[slice(*span)] for x in rows]).astype(np.float64)
            text = [np.delete(x[:n], slice(*span), 0) for x, n in zip(rows, last, strict=True)]
            text = np.concatenate(text).astype(np.float64)
            wanted = [Layer.of(real[str(p.outputs[0].name)]).rows() for p in products]
            options = self.options.rank, self.options.activation_bits
            fitted = fit_branch(wanted, products, image, text, *options)
            branch(value, products, *fitted)
            count += len(products)
        branch.finish()
        return count, notes


def _refused(why: str) -> UsageFault:
    return UsageFault(
        "EV220",
        "compensate-modalities without image rows at one fixed place",
        why,
        "use quantize-weights in its place",
    )
