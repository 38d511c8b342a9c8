"""Put rounded weights into a graph, in the one dialect: DequantizeLinear, no zero point.

    MatMul(x, W)   fold, and all but dasq   MatMul(x, Deq(codes [K,N], s [N] or [K/block,N]))
                   dasq, branches           MatMul(x, Deq(dense, s)) + MatMul(x, Deq(sparse, 2^u s))
                   dasq, ell                MatMul(x, Deq(dense, s))
                                              + ReduceSum(Gather(x, places) Deq(few [N,r], 2^u s))
    Gather(T, ids)                          Deq(Gather(codes, ids), Gather(s, ids))

2 to 4 bits are INT4 in the file, two a byte; 5 to 8 are INT8; e4m3 is FLOAT8E4M3FN. What was done
stands in the metadata of the (dense) DequantizeLinear, so that whoever reads the graph can say how
many bits it has.
"""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.quantised import STORED
from edgevlm.passes.quantize.dasq import Dasq
from edgevlm.passes.quantize.grids import E4M3, Rounded
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.scheme import Scheme

__all__ = ["Store"]

Pair = tuple[ir.Value, ir.Value]
INT4 = ml_dtypes.int4


class Store:
    """Writes into one part; a weight that several nodes read is stored once."""

    def __init__(self, part: ir.Model) -> None:
        self.build = GraphBuilder(part, "quantize_weights")
        self._done: dict[tuple[ir.Value, int, Scheme], list[Pair]] = {}
        self._old: set[ir.Value] = set()

    def __call__(
        self,
        layer: Layer,
        rounded: Rounded | Dasq,
        weights_db: float,
        scheme: Scheme,
        loss: float | None = None,
    ) -> None:
        """weights_db: SQNR of the weights; loss: of the outputs by this layer, where measured."""
        self._old.add(layer.weight)
        about = _record(layer, rounded, scheme) | {"weights_db": round(weights_db, 2)}
        about |= {} if loss is None else {"loss": loss}
        record = json.dumps(about, sort_keys=True)
        key = (layer.weight, layer.axis, scheme)
        if isinstance(rounded, Dasq) and scheme.form != "fold":
            return self._in_two(layer, rounded, scheme, record)
        if key not in self._done:
            whole, bits = rounded, scheme.bits
            if isinstance(rounded, Dasq):
                codes, scale = rounded.folded()
                whole, bits = Rounded(codes, scale[:, None], codes.shape[1]), 8
            self._done[key] = [self._pair(layer, whole, bits)]
        if layer.kind == "table":
            return self._look_up(layer.node, *self._done[key][0], record)
        real = self._real(layer, self._done[key][0], rounded, record)
        layer.node.replace_input_with(layer.position, real)

    def finish(self) -> None:
        """Drop the float weights that nothing reads any more; order and shapes."""
        for weight in self._old:
            if not weight.uses() and not weight.is_graph_output():
                self.build.graph.initializers.pop(weight.name, None)
        self.build.finish()

    def _pair(self, layer: Layer, rounded: Rounded, bits: int) -> Pair:
        """(codes in the shape of the weight, scales) as initializers."""
        codes = layer.unrolled(rounded.codes)
        scale = rounded.scales[:, 0]
        if rounded.scales.shape[1] > 1:
            scale = rounded.scales if layer.axis == 0 else rounded.scales.T
        kind = INT4 if bits <= 4 else np.int8
        if codes.dtype == E4M3.dtype:
            kind = E4M3.dtype
        return self.build.const(codes, kind), self.build.const(scale, np.float32)

    def _real(self, layer: Layer, pair: Pair, rounded: Rounded | Dasq, record: str) -> ir.Value:
        """A DequantizeLinear of its own for each reader: tools fuse what one node alone reads."""
        options = {"axis": layer.axis}
        if len(pair[1].shape) > 1:
            options = {"axis": 1 - layer.axis, "block_size": rounded.block}
        real = self.build("DequantizeLinear", *pair, **options)
        real.producer().metadata_props[STORED] = record
        return real

    def _in_two(self, layer: Layer, found: Dasq, scheme: Scheme, record: str) -> None:
        """The product with the dense part, and what the outliers add to it."""
        scales = found.scale[:, None], (found.scale * np.exp2(found.shift))[:, None]
        width, key = found.dense.shape[1], (layer.weight, layer.axis, scheme)
        if key not in self._done:
            pairs = [self._pair(layer, Rounded(found.dense, scales[0], width), scheme.bits)]
            if scheme.form == "branches":
                few = Rounded(found.sparse, scales[1], width)
                pairs.append(self._pair(layer, few, scheme.outlier_bits))
            else:
                places, codes = found.ell()
                const = self.build.const
                few = const(codes, np.int8), const(scales[1][:, 0], np.float32)
                lead = [int(d) for d in layer.node.inputs[0].shape[:-1]]
                pairs += [few, (const(places.ravel()), const([*lead, *places.shape]))]
            self._done[key] = pairs
        pairs, node = self._done[key], layer.node
        out, x = node.outputs[0], node.inputs[0]
        users = list(out.uses())
        node.replace_input_with(layer.position, self._real(layer, pairs[0], found, record))
        if scheme.form == "branches":
            more = self._branch(layer, x, pairs[1])
        else:
            more = self._table_of_outliers(x, *pairs[1:])
        self._add(node, more, users)

    def _branch(self, layer: Layer, x: ir.Value, pair: Pair) -> ir.Value:
        real = self.build("DequantizeLinear", *pair, axis=layer.axis)
        if layer.node.op_type == "MatMul":
            return self.build("MatMul", x, real)
        names = ("transA", "transB")
        turned = {name: layer.node.attributes.get_int(name, 0) for name in names}
        return self.build("Gemm", x, real, **turned)

    def _table_of_outliers(self, x: ir.Value, few: Pair, at: Pair) -> ir.Value:
        """sum_r x[places[n,r]] few[n,r]: shapes fixed, no sparse tensor."""
        taken = self.build("Reshape", self.build("Gather", x, at[0], axis=-1), at[1])
        each = self.build("Mul", taken, self.build("DequantizeLinear", *few, axis=0))
        return self.build("ReduceSum", each, self.build.const([-1]), keepdims=0)

    def _add(self, node: ir.Node, more: ir.Value, users: list) -> None:
        """node's output plus `more`, under its name."""
        out = node.outputs[0]
        total = self.build("Add", out, more)
        total.shape, total.type = out.shape, out.type
        name = out.name
        if out.is_graph_output():
            ir.convenience.replace_all_uses_with(out, total, replace_graph_outputs=True)
            total.producer().replace_input_with(0, out)
        else:
            for user, i in users:
                user.replace_input_with(i, total)
        out.name, total.name = f"{name}_dense", name

    def _look_up(self, node: ir.Node, codes: ir.Value, scale: ir.Value, record: str) -> None:
        """Rows and their scales, then scaled: the table itself is never made float."""
        out, ids = node.outputs[0], node.inputs[1]
        rows = self.build("Gather", codes, ids, axis=0)
        scales = self.build("Gather", scale, ids, axis=0)
        scales = self.build("Reshape", scales, self.build.const([-1]))
        real = self.build("DequantizeLinear", rows, scales, axis=len(out.shape) - 2)
        real.producer().metadata_props[STORED] = record
        real.shape, real.type, name = out.shape, out.type, out.name
        ir.convenience.replace_all_uses_with(out, real, replace_graph_outputs=True)
        self.build.graph.remove(node, safe=True)
        real.name = name


def _record(layer: Layer, rounded: Rounded | Dasq, scheme: Scheme) -> dict[str, object]:
    """What `edgevlm inspect --quant` says of a layer."""
    record: dict[str, object] = {
        "layer": str(layer.node.name or layer.node.outputs[0].name),
        "output": str(layer.node.outputs[0].name),
        "digest": layer.key[-12:],
        "kind": layer.kind,
        "bits": scheme.bits,
        "method": scheme.method,
        "weights": layer.weight.const_value.size,
    }
    if scheme.number != "int":
        record["number"] = scheme.number
    if isinstance(rounded, Dasq):
        share = round(float(rounded.mask.mean()), 5)
        record |= {"outliers": share, "outlier_bits": scheme.outlier_bits, "form": scheme.form}
        return record
    return record | ({"block": rounded.block} if rounded.scales.shape[1] > 1 else {})
