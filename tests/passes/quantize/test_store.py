"""Every form of rounded weights in a graph, run by ONNX Runtime, against the numbers themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.compiler.executor import open_session
from edgevlm.compiler.quantised import STORED
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.rounding import round_rows
from edgevlm.passes.quantize.scheme import Scheme

RNG = np.random.default_rng(0)
W = RNG.standard_t(3, size=(48, 40)).astype(np.float32)
B = RNG.normal(size=40).astype(np.float32)
X = RNG.normal(size=(2, 7, 48)).astype(np.float32)
PRODUCTS = {
    "MatMul": ("(float[2,7,48] x) => (float[2,7,40] y) { y = MatMul(x, w) }", W, X),
    "MatMul inside": (
        "(float[2,7,48] x) => (float[2,7,40] z) { y = MatMul(x, w) z = Neg(y) }", W, X),
    "Gemm": ("(float[7,48] x) => (float[7,40] y) { y = Gemm(x, w, b) }", W, X[0]),
    "Gemm, transposed": (
        "(float[7,48] x) => (float[7,40] y) { y = Gemm<transB = 1>(x, w, b) }", W.T, X[0]),
    "Gemm, both": (
        "(float[48,7] x) => (float[7,40] y) { y = Gemm<transA = 1, transB = 1>(x, w, b) }",
        W.T, X[0].T),
}  # fmt: skip
SCHEMES = {
    "w4": {"bits": 4, "method": "mse"},
    "w3": {"bits": 3, "method": "mse"},
    "w6": {"bits": 6, "method": "max"},
    "blocks": {"bits": 4, "block": 16, "method": "mse"},
    "blocks, one cut short": {"bits": 4, "block": 20, "method": "max"},
    "blocks of int8": {"bits": 8, "block": 16, "method": "max"},
    "dasq": {"bits": 4, "method": "dasq"},
    "dasq, in two": {"bits": 4, "method": "dasq", "form": "branches"},
    "dasq, a table": {"bits": 3, "method": "dasq", "form": "ell", "outliers": 0.05},
}


def made(graph, solo, product, **options):
    text, weight, _ = PRODUCTS[product]
    part = graph(text, w=weight, **({"b": B} if "Gemm" in product else {}))
    return QuantizeWeights(min_elements=1, **options)(solo(part)).model


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_multiplies_with_the_rounded_weight(graph, solo, ort, product, scheme):
    options = SCHEMES[scheme]
    after = made(graph, solo, product, **options).parts["vision"]
    if product == "Gemm, both":  # its inputs are columns, which no table of outliers picks
        options = options | {"form": "fold"}
    rounded = round_rows(W.T, Scheme(**options)).weights()
    x = PRODUCTS[product][2]
    rows = x.T if product == "Gemm, both" else x
    wanted = rows.astype(np.float64) @ rounded.T + (B if "Gemm" in product else 0)
    (found,) = ort(after, x=x).values()
    wanted = -wanted if product == "MatMul inside" else wanted
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_graph_says_what_was_done(graph, solo, scheme):
    after = made(graph, solo, "MatMul", **SCHEMES[scheme]).parts["vision"]
    (record,) = [
        json.loads(n.metadata_props[STORED]) for n in after.graph if STORED in n.metadata_props
    ]
    options = SCHEMES[scheme]
    assert record["bits"] == options["bits"] and record["method"] == options["method"]
    assert record.get("block", 0) == options.get("block", 0) and record["weights"] == W.size
    if options["method"] == "dasq":
        assert record["outliers"] == pytest.approx(options.get("outliers", 0.02), abs=0.015)


@pytest.mark.parametrize(
    ("bits", "kind", "size"), [(3, "INT4", 960), (4, "INT4", 960), (5, "INT8", 1920)]
)
def test_four_bits_are_two_a_byte_and_come_back(graph, solo, tmp_path, bits, kind, size):
    part = made(graph, solo, "MatMul", bits=bits).parts["vision"]
    with WeightWriter(tmp_path) as writer:
        save_graph(part, tmp_path / "part.onnx", writer)
    read = load_graph(tmp_path / "part.onnx")
    (codes,) = [v.const_value for v in read.graph.initializers.values() if v.dtype.name == kind]
    assert codes.nbytes == size
    wanted = open_session(part).run(None, {"x": X})[0]
    np.testing.assert_array_equal(open_session(read).run(None, {"x": X})[0], wanted)


def test_a_weight_in_two_that_nodes_share_is_stored_once(graph, solo):
    text = "(float[1,48] x) => (float[1,40] y) { y = MatMul(x, w) z = MatMul(x, w) u = Add(y, z) }"
    options = {"bits": 4, "method": "dasq", "form": "branches", "min_elements": 1}
    model = QuantizeWeights(**options)(solo(graph(text, w=W))).model
    kinds = [v.dtype.name for v in model.parts["vision"].graph.initializers.values()]
    assert kinds.count("INT4") == 2  # dense and sparse


def test_rules_are_for_some_layers(graph, solo):
    text = """(float[1,48] x) => (float[1,40] y, float[1,40] z, float[1,40] u) {
        [up] y = MatMul(x, w) [down] z = MatMul(x, w) [gate] u = MatMul(x, w) }"""
    rules = [
        {"match": "vision/*", "bits": 4},
        {"match": "vision/down", "method": "none"},
        {"match": "other/*", "bits": 2},
        {"match": "*/gate", "method": "dasq", "bits": 3},
    ]
    step = QuantizeWeights(min_elements=1, layers=rules)
    result = step(solo(graph(text, w=W)))
    part = result.model.parts["vision"]
    found = [json.loads(n.metadata_props[STORED]) for n in part.graph if STORED in n.metadata_props]
    assert {(r["layer"], r["bits"], r["method"]) for r in found} == {
        ("up", 4, "max"), ("gate", 3, "dasq"),
    }  # fmt: skip
    assert ("skipped", "vision/down", "method = none") in [
        (n.kind, n.where, n.why) for n in result.notes
    ]
    again = QuantizeWeights(**step.options.model_dump(mode="json"))
    assert again.options == step.options
