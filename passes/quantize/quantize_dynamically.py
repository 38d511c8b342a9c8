"""Give products with integer weights int8 inputs, with scales found while they run.

    before: MatMul(x, Deq(Wq [K,N], s [K/b,N]))
    after:  MatMul(Deq(Quant(x, t), t), Deq(Wq, s))
            t [...,K/b] = max|x| of each row and block / 127; or t [...,1], of each row

A scale a block of weights needs one a block of inputs, if sums within a block are to be sums of
integers; that many scales are not known beforehand, so each row brings its own. No zero point and
no calibration. Skips inputs that are not whole blocks. For targets whose products do this inside
(MLAS, XNNPACK, llama.cpp); elsewhere the extra nodes cost more than they save. Where a form has
scales a row (XNNPACK: qd8), weights with a scale a channel are taken as well. Expected effect:
SQNR of a layer about 40 dB, since a large number spoils only its own block.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.quantised import check_symmetric, is_float8, is_rounded, weights_of
from edgevlm.passes.quantize.forms import find_integer_form
from edgevlm.passes.quantize.grids import TINY, Grid

__all__ = ["QuantizeDynamically"]


class QuantizeDynamicallyOptions(PassOptions):
    form: str = Field("ort", description="what the target runs in integers")


class QuantizeDynamically(Pass):
    name = "quantize-dynamically"
    summary = "int8 inputs for products with integer weights, scales found at run time"
    Options = QuantizeDynamicallyOptions
    effect = Effect.APPROXIMATE
    after = ("keep-tokens", "merge-attention", "quantize-weights", "compensate-modalities")
    floor_db = 8.0  # as quantize-activations

    def requires(self, model: ExportedModel) -> None:
        find_integer_form(self.options.form)

    def run(self, model: ExportedModel) -> PassResult:
        changed, notes, form = {}, [], find_integer_form(self.options.form)
        for role, part in model.parts.items():
            clone = part.clone()
            build, count = GraphBuilder(clone, "quantize_dynamically"), 0
            stored: dict[tuple[ir.Value, int], tuple[ir.Value, ir.Value]] = {}
            for node in list(clone.graph):
                block = _row(node) if form.rows else _block(node)
                if not block:
                    continue
                x = node.inputs[0]
                if int(x.shape[-1]) % block:
                    why = f"{x.shape[-1]} inputs are not whole blocks of {block}"
                    notes.append(Note("skipped", f"{role}/{node.name}", why))
                    continue
                if (x, block) not in stored:
                    stored[x, block] = _quantise(build, x, block)
                real = build("DequantizeLinear", *stored[x, block], axis=-1, block_size=block)
                node.replace_input_with(0, real)
                count += 1
            if count:
                build.finish()
                changed[role] = clone
                notes.append(Note("matched", role, f"{count} products, scales at run time"))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """Nothing has a zero point."""
        check_symmetric(after)


def _block(node: ir.Node) -> int:
    """Inputs that share a scale of the weights; 0 for another node, or one that is done."""
    maker = weights_of(node)
    if maker is None or node.op_type != "MatMul" or is_rounded(node.inputs[0]):
        return 0
    along = maker.attributes.get_int("axis", 1) == 0
    return maker.attributes.get_int("block_size", 0) if along else 0


def _row(node: ir.Node) -> int:
    """All inputs of a product with integer weights, which share a scale; 0 for another node."""
    maker = weights_of(node)
    if maker is None or node.op_type not in ("MatMul", "Gemm") or is_float8(maker):
        return 0
    turned = node.op_type == "Gemm" and node.attributes.get_int("transA", 0)
    return 0 if turned or is_rounded(node.inputs[0]) else int(node.inputs[0].shape[-1])


def _quantise(build: GraphBuilder, x: ir.Value, block: int) -> tuple[ir.Value, ir.Value]:
    """(int8, shape of x; scales [...,K/b])."""
    shape = [int(d) for d in x.shape]
    rows = build("Reshape", x, build.const([*shape[:-1], shape[-1] // block, block]))
    top = build("ReduceMax", build("Abs", rows), build.const([-1]), keepdims=0)
    scale = build("Mul", top, build.const(1 / Grid(8).high, np.float32))
    scale = build("Max", scale, build.const(TINY, np.float32))  # a row of zeros
    int8 = int(ir.DataType.INT8)
    return build("QuantizeLinear", x, scale, axis=-1, block_size=block, output_dtype=int8), scale
