"""What a kernel computes and moves: by hand for each form of weights, and against other counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from micro.dags import SIDE, dags

from edgevlm.compiler.cost import count, macs
from edgevlm.compiler.layers import Size, layers_of, size_of, weight_sizes
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.ort.runtime import OrtRuntime

X, Y = "float[1,5,32] x", "float[1,5,16] y"
CODES = np.ones((32, 16), np.int8)
SCALE = np.ones(16, np.float32)
ROUNDED = "q = QuantizeLinear<output_dtype = 3>(x, s) v = DequantizeLinear(q, s) "
FROM_CODES = "u = DequantizeLinear<axis = 1>(w, t) "


def one(part, folds=False):
    (layer,) = layers_of(part, folds=folds)
    return layer


def test_a_product_with_its_bias_and_activation(graph):
    part = graph(
        f"({X}) => ({Y}) {{ a = MatMul(x, w) b = Add(a, c) y = Gelu(b) }}",
        w=np.ones((32, 16), np.float32),
        c=np.ones(16, np.float32),
    )
    layer = one(part)
    assert (layer.op, layer.fused, layer.dtype) == ("MatMul", ("Add", "Gelu"), "fp32")
    assert layer.macs == 5 * 32 * 16
    assert layer.weights == Size(floats=32 * 16 + 16)
    assert layer.reads == Size(floats=5 * 32) and layer.writes == Size(floats=5 * 16)
    assert layer.moved.bytes(2) == 2 * (32 * 16 + 16 + 5 * 32 + 5 * 16)


@pytest.mark.parametrize(("folds", "floats", "other"), [(True, 512, 0), (False, 16, 512)])
def test_int8_weights_of_a_float_product(graph, folds, floats, other):
    """ONNX Runtime makes them float when it opens the part; who does not reads the codes."""
    part = graph(f"({X}) => ({Y}) {{ {FROM_CODES} y = MatMul(x, u) }}", w=CODES, t=SCALE)
    layer = one(part, folds)
    assert layer.weights == Size(floats, other) and layer.dtype == "fp32"
    assert sum(size.bytes() for size in weight_sizes(part, folds=folds).values()) == (
        4 * floats + other
    )


@pytest.mark.parametrize("folds", [True, False])
def test_a_product_of_integers_reads_codes_on_both_sides(graph, folds):
    part = graph(
        f"({X}) => ({Y}) {{ {ROUNDED} {FROM_CODES} y = MatMul(v, u) }}",
        w=CODES,
        t=SCALE,
        s=np.array(0.1, np.float32),
    )
    rounding, layer = layers_of(part, folds=folds)
    assert rounding.op == "QuantizeLinear" and rounding.writes == Size(other=5 * 32)
    assert layer.dtype == "int8" and layer.weights == Size(floats=16, other=512)
    assert layer.reads == Size(other=5 * 32)


def test_what_the_runtime_writes_costs_the_same_products(tiny_model):
    """MatMulNBits of the artifact has the MACs of the MatMul that it stands for."""
    four = QuantizeWeights(bits=4, block=32)(tiny_model).model
    for part in four.parts.values():
        written, _ = OrtRuntime().written(part)
        assert sum(map(macs, written.graph)) == count(part).macs
        stored = sum(layer.weights.bytes() for layer in layers_of(written, folds=True))
        before = sum(layer.weights.bytes() for layer in layers_of(part, folds=True))
        assert stored == pytest.approx(before, rel=0.15), "four bits a weight in both"


def test_a_lookup_reads_its_rows_and_not_the_table(graph):
    part = graph("(int64[1,3] i) => (float[1,3,8] y) { y = Gather(w, i) }", w=np.ones((99, 8), "f"))
    layer = one(part)
    assert layer.weights == Size(floats=3 * 8) and layer.reads == Size(other=3 * 8)
    assert sum(size.floats for size in weight_sizes(part, folds=True).values()) == 99 * 8


def test_all_products_and_weights_of_a_real_model_are_there_once(tiny_model):
    for part in tiny_model.parts.values():
        layers, cost = layers_of(part, folds=True), count(part)
        assert sum(layer.macs for layer in layers) == cost.macs
        held = sum(size.bytes() for size in weight_sizes(part, folds=True).values())
        assert held == pytest.approx(cost.weight_bytes, rel=0.01), "but for shapes of views"
        assert len(layers) <= len(part.graph)


@given(dags())
def test_fusing_moves_no_more_than_the_nodes_alone(part):
    alone = 0
    for node in part.graph:
        if node.op_type != "Identity":
            alone += sum(size_of(v).bytes() for v in {*node.inputs, *node.outputs})
    together = sum(layer.moved.bytes() for layer in layers_of(part, folds=True))
    assert together <= alone
    products = sum(node.op_type == "MatMul" for node in part.graph)
    assert sum(layer.macs for layer in layers_of(part, folds=True)) == products * SIDE**3


def test_a_value_without_a_shape_is_named(graph):
    part = graph("(float[4,4] x) => (float[4,4] y) { a = Relu(x) y = MatMul(a, x) }")
    part.graph.node(0).outputs[0].shape = None
    with pytest.raises(ValueError, match="a has no shape"):
        layers_of(part, folds=False)
