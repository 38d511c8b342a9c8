"""Store weights as indices into small tables of numbers, which Core ML and Core AI look up.

    before: MatMul(x, W fp32 [K,N])    after: MatMul(x, Gather(tables [G x 16],
                                                 Add(Cast(indices uint4 [K,N]), first [1,N])))

A table holds whatever 16 numbers fit its weights best, where integers are even steps; `group`
output channels share one. The tables are chosen by square error of the weights (palette.py), and
nothing is fitted to inputs. Weights that parts share are chosen for once. Tables of embeddings are
left to quantize-weights, small and computed weights stay float, and it says so. Expected effect at
4 bits: an eighth of the size of float32, some per cent of it tables, and 20 dB of a layer's weights
where they are spread like a normal: as much as int4 with a scale a channel, less than int4 in
blocks of 32; more where few values come again and again. Arithmetic stays float. (arXiv
1510.00149, section 3: weight sharing)
"""

from __future__ import annotations

import json
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.drift import measure
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.palettes import write_palette
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassOptions, PassResult
from edgevlm.compiler.quantised import STORED
from edgevlm.passes.quantize.layers import Layer, why_not
from edgevlm.passes.quantize.palette import Palettised, palettise

__all__ = ["PalettiseWeights"]


class PalettiseWeightsOptions(PassOptions):
    bits: Literal[2, 3, 4, 6, 8] = Field(4, description="of an index; a table has 2^bits numbers")
    group: int = Field(
        16, ge=0, le=65536, description="output channels that share a table, or a few more; 0: all"
    )
    min_elements: int = Field(1024, ge=1, description="tensors smaller than this stay float")


class PalettiseWeights(Pass):
    name = "palettise-weights"
    summary = "store weights as indices of 2 to 8 bits into tables (Core ML, Core AI)"
    effect = Effect.APPROXIMATE
    paper = "1510.00149"
    after = (
        "fold-constants",
        "merge-duplicates",
        "keep-tokens",
        "merge-attention",
        "scale-weights",
    )
    Options = PalettiseWeightsOptions

    @property
    def floor_db(self) -> float:
        """As of integers: 6 dB less a bit below six, never as little as a broken graph has."""
        return max(3.0, 15.0 - 6.0 * max(0, 6 - self.options.bits))

    def run(self, model: ExportedModel) -> PassResult:
        known: dict[str, tuple[Palettised, float]] = {}
        changed, notes = {}, []
        for role, part in model.parts.items():
            clone = part.clone()
            found, build = [], GraphBuilder(clone, "palettise_weights")
            for node in list(clone.graph):
                why = why_not(node, self.options.min_elements, embeddings=True)
                if why is None and Layer.of(node).kind == "table":
                    why = "rows of embedding tables are looked up; quantize-weights rounds them"
                if why is None:
                    found.append(Layer.of(node))
                elif why:
                    notes.append(Note("skipped", f"{role}/{node.name}", why))
            done: dict[tuple[ir.Value, int], ir.Value] = {}
            for layer in found:
                self._put(build, layer, known, done)
            if found:
                for weight in {layer.weight for layer in found}:
                    if not weight.uses() and not weight.is_graph_output():
                        clone.graph.initializers.pop(weight.name, None)
                build.finish()
                changed[role] = clone
                words = f"{len(found)} weights to tables of {2**self.options.bits} numbers"
                notes.append(Note("matched", role, words))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def _put(
        self,
        build: GraphBuilder,
        layer: Layer,
        known: dict[str, tuple[Palettised, float]],
        done: dict[tuple[ir.Value, int], ir.Value],
    ) -> None:
        """known: by the numbers of a weight, whichever part has it; done: what this part has."""
        options, old = self.options, layer.weight
        if (real := done.get((old, layer.axis))) is not None:
            layer.node.replace_input_with(layer.position, real)
            return
        if layer.key not in known:
            rows = layer.rows()
            made = palettise(rows, options.bits, options.group)
            known[layer.key] = made, measure(rows, made.weights(), "").sqnr_db
        made, decibel = known[layer.key]
        dtype = ml_dtypes.uint4 if options.bits <= 4 else np.uint8
        real = write_palette(build, layer.unrolled(made.indices), made.tables, layer.axis, dtype)
        real.producer().metadata_props[STORED] = json.dumps(
            {
                "layer": str(layer.node.name or layer.node.outputs[0].name),
                "output": str(layer.node.outputs[0].name),
                "digest": layer.key[-12:],
                "kind": layer.kind,
                "bits": options.bits,
                "method": "k-means",
                "weights": old.const_value.size,
                "weights_db": round(decibel, 2),
            },
            sort_keys=True,
        )
        done[old, layer.axis] = real
        layer.node.replace_input_with(layer.position, real)
