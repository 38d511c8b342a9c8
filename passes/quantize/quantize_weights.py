"""Store weights in few bits with one scale an output channel or block: no zero point anywhere.

    before: MatMul(x, W fp32 [K,N])       after: MatMul(x, DequantizeLinear(Wq [K,N], s))
            Gather(table fp32 [V,D], ids)        DequantizeLinear(Gather(Wq, ids), Gather(s, ids))

Who rounds (`method`): max, no number clipped; mse, least square error of the weights; gptq, gptaq,
vlm-ptq and full, least error of what the layer gives, column by column (compensation/gptq.py);
dasq, a few outliers apart (dasq.py), as one int8 tensor, two products or a table. Methods that look
at inputs go through a part layer by layer (flow.py). Weights that parts share (prefill and decode)
are rounded once. 2 to 4 bits are packed two a byte. Convolutions and tables take 8 bits, a scale a
channel. number = e4m3 is FP8 in the same places, but for tables: TensorRT looks up no rows of it.
Refuses nothing; skips small tensors and computed weights, and says so. Expected effect:
weights a quarter or an eighth of the size; activations stay float; SQNR of a layer about 40 dB at 8
bits, 20 at 4.
"""

from __future__ import annotations

import onnx_ir as ir
from pydantic import Field, model_validator

from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import measure
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Effect, Note, Pass, PassResult
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.dasq import Dasq
from edgevlm.passes.quantize.flow import flow
from edgevlm.passes.quantize.grids import Rounded
from edgevlm.passes.quantize.layers import Layer, why_not
from edgevlm.passes.quantize.mixed import BITS, Mixed, mixed_bits
from edgevlm.passes.quantize.rounding import round_rows
from edgevlm.passes.quantize.scheme import LayerRule, Scheme
from edgevlm.passes.quantize.sensitivity import joint_error
from edgevlm.passes.quantize.store import Store

__all__ = ["QuantizeWeights", "QuantizeWeightsOptions"]


class QuantizeWeightsOptions(Scheme):
    min_elements: int = Field(1024, ge=1, description="tensors smaller than this stay float")
    embeddings: bool = Field(True, description="quantise embedding tables, one scale a row")
    average_bits: float = Field(
        0.0,
        ge=0,
        le=8,
        description="of all products, each as its sensitivity asks; 0: bits for all",
    )
    budget_ms: float = Field(
        0.0, ge=0, le=1e6, description="to the first token; compile turns it into rules; 0: none"
    )
    layers: tuple[LayerRule, ...] = Field(
        (), strict=False, description="what differs for some layers; the last match counts most"
    )

    @model_validator(mode="after")
    def _rules_fit(self) -> QuantizeWeightsOptions:
        for rule in self.layers:
            rule.changed(self.scheme)
        if self.number == "e4m3" and (self.average_bits or self.budget_ms):
            raise ValueError("e4m3 has 8 bits everywhere: no average_bits, no budget_ms")
        return self

    @property
    def scheme(self) -> Scheme:
        """Of a layer that no rule names."""
        return Scheme(**{name: getattr(self, name) for name in Scheme.model_fields})


class QuantizeWeights(Pass):
    name = "quantize-weights"
    summary = "store weights as symmetric integers of 2 to 8 bits, or as FP8"
    effect = Effect.APPROXIMATE
    after = (
        "fold-constants",
        "merge-duplicates",
        "keep-tokens",
        "merge-attention",
        "smooth-activations",
        "scale-weights",
        "palettise-weights",
    )
    Options = QuantizeWeightsOptions

    @property
    def floor_db(self) -> float:
        """6 dB less a bit below six, but never as little as a broken graph has."""
        options = self.options
        bits = [r.bits for r in options.layers if r.bits] + [options.bits]
        least = min(bits) if not options.average_bits else BITS[-1]
        return max(3.0, 15.0 - 6.0 * max(0, 6 - least))

    @property
    def calibrated(self) -> bool:
        """Only where something is measured on inputs."""
        plain = self.options.scheme
        schemes = [plain, *(rule.changed(plain) for rule in self.options.layers)]
        return bool(self.options.average_bits) or any(s.fitted for s in schemes)

    def run(self, model: ExportedModel) -> PassResult:
        clones = {role: part.clone() for role, part in model.parts.items()}
        layers, notes = {}, []
        for role, clone in clones.items():
            layers[role], skipped = self._layers(role, clone.graph)
            notes += skipped
        mixed = self._mixed(model, layers)
        known: dict[tuple[str, Scheme], tuple[Rounded | Dasq, float]] = {}
        changed = {}
        for role, clone in clones.items():
            found = [(la, mixed.schemes.get(la.key, s) if mixed else s) for la, s in layers[role]]
            if not found:
                continue
            store = Store(clone)

            def put(
                layer: Layer, scheme: Scheme, gram: Gram | None = None, to: Store = store
            ) -> None:
                key = layer.key, scheme
                if key not in known:
                    rows = layer.rows()
                    rounded = round_rows(rows, scheme, gram)
                    known[key] = rounded, measure(rows, rounded.weights(), "").sqnr_db
                to(layer, *known[key], scheme, mixed.loss.get(layer.key) if mixed else None)

            fitted = []
            for layer, scheme in found:
                if scheme.fitted and (layer.key, scheme) not in known:
                    fitted.append((layer, scheme))
                else:
                    put(layer, scheme)
            if fitted:
                flow(role, model.parts[role], clone, fitted, self.observed, put)
            store.finish()
            changed[role] = clone
            notes.append(Note("matched", role, _summary(found)))
        if mixed:
            notes.append(Note("info", "all parts", self._told(mixed, model, changed)))
        return PassResult(model.with_parts(**changed), bool(changed), tuple(notes))

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:
        """No zero point in any quantisation node."""
        check_symmetric(after)

    def _layers(self, role: Role, graph: ir.Graph) -> tuple[list[tuple[Layer, Scheme]], list[Note]]:
        found, notes = [], []
        for node in graph:
            why = why_not(node, self.options.min_elements, self.options.embeddings)
            layer = None if why is not None else Layer.of(node)
            if layer:
                scheme = self._scheme(role, layer)
                why = _left(layer, scheme)
                if why is None:
                    found.append((layer, scheme))
            if why:
                notes.append(Note("skipped", f"{role}/{node.name}", why))
        return found, notes

    def _scheme(self, role: Role, layer: Layer) -> Scheme:
        scheme = self.options.scheme
        for rule in self._rules(role, layer):
            scheme = rule.changed(scheme)
        if layer.takes_rows or scheme.method == "none":
            return scheme
        if layer.kind == "product":  # its inputs are columns, which no table of outliers picks
            return scheme.model_copy(update={"form": "fold"})
        how = "max" if scheme.method == "max" else "mse"
        return Scheme(number=scheme.number, method=how)

    def _rules(self, role: Role, layer: Layer) -> list[LayerRule]:
        return [rule for rule in self.options.layers if layer.is_called(role, rule.match)]

    def _mixed(
        self, model: ExportedModel, layers: dict[Role, list[tuple[Layer, Scheme]]]
    ) -> Mixed | None:
        """Bits by sensitivity, of products for which no rule says how many; None: not asked for."""
        if not self.options.average_bits:
            return None
        open_ones = {
            role: [
                (layer, scheme)
                for layer, scheme in found
                if layer.takes_rows and not any(r.bits for r in self._rules(role, layer))
            ]
            for role, found in layers.items()
        }
        return mixed_bits(model.parts, open_ones, self.observed, self.options.average_bits)

    def _told(self, mixed: Mixed, model: ExportedModel, changed: dict[Role, ir.Model]) -> str:
        joint = sum(
            joint_error(model.parts[role], clone, self.observed.fed(role))
            for role, clone in changed.items()
        )
        return (
            f"{mixed.average:.2f} bits a weight on average; relative output error: layers one by "
            f"one add up to {sum(mixed.loss.values()):.2g}, together they make {joint:.2g}"
        )


def _left(layer: Layer, scheme: Scheme) -> str | None:
    """Why a layer that could be rounded is not."""
    if scheme.method == "none":
        return "method = none"
    if layer.kind == "table" and scheme.number == "e4m3":
        return f"{layer.weight.name} is a table, of which TensorRT looks up no rows in e4m3"
    return None


def _summary(found: list[tuple[Layer, Scheme]]) -> str:
    counts: dict[str, int] = {}
    for _, scheme in found:
        kind = scheme.number if scheme.number != "int" else f"int{scheme.bits}"
        words = f"{kind} ({scheme.method})"
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{count} weights to {words}" for words, count in counts.items())
