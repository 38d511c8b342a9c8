"""Bits by sensitivity: what is measured, what is spent, and that it beats the same bits for all."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.quantised import STORED
from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.layers import Layer
from edgevlm.passes.quantize.mixed import stored_bits
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.scheme import Scheme
from edgevlm.passes.quantize.sensitivity import joint_error, sensitivities, to_logits

RNG = np.random.default_rng(0)
NAMES = "abcd"
W = {n: RNG.normal(size=(32, 32)).astype(np.float32) / 6 for n in NAMES}
#: the second product counts a hundred times as much as the first
TEXT = """(float[9,32] x) => (float[9,32] y) {
    p = MatMul(x, a) q = MatMul(x, b) h = Mul(q, hundred) s = Add(p, h) t = Tanh(s)
    u = MatMul(t, c) y = MatMul(u, d) }"""
FEEDS = [{"x": RNG.normal(size=(9, 32)).astype(np.float32)} for _ in range(4)]


@pytest.fixture
def model(graph, solo):
    return solo(graph(TEXT, **W, hundred=np.float32([100])))


def quantised(model, seen=None, **options):
    step = QuantizeWeights(min_elements=1, **options)
    step.calibration = seen or Reference([{"vision": f} for f in FEEDS], [], [])
    return step(model)


def records(part):
    rows = [json.loads(n.metadata_props[STORED]) for n in part.graph if STORED in n.metadata_props]
    return {row["output"]: row for row in rows}


def test_a_sensitivity_is_the_error_of_rounding_that_layer_alone(graph, solo, model):
    part = model.parts["vision"]
    layers = [Layer.of(n) for n in part.graph if n.op_type == "MatMul"]
    found = sensitivities(
        part, layers, lambda la: to_nearest(la.rows(), Grid(3), 0, "max").weights(), FEEDS
    )
    for name, layer, measured in zip(NAMES, layers, found, strict=True):
        coarse = to_nearest(W[name].T, Grid(3), 0, "max").weights().T.astype(np.float32)
        other = graph(TEXT, **(W | {name: coarse}), hundred=np.float32([100]))
        errors = []
        for feed in FEEDS:
            a, b = (open_session(p).run(None, feed)[0].astype(np.float64) for p in (part, other))
            errors.append(np.square(a - b).sum() / np.square(a).sum())
        assert measured == pytest.approx(np.mean(errors), rel=1e-4), layer.weight.name
    assert found[1] > 100 * found[0]


@pytest.mark.parametrize("average", [3.0, 3.4, 4.0, 5.0, 6.5, 8.0])
@pytest.mark.parametrize("method", ["mse", "gptq"])
def test_the_average_is_kept_and_what_matters_gets_more(model, average, method):
    result = quantised(model, average_bits=average, method=method)
    found = records(result.model.parts["vision"])
    bits = {name: row["bits"] for name, row in found.items()}
    assert np.mean(list(bits.values())) <= average
    assert bits["q"] >= bits["p"]
    assert "bits a weight on average" in result.notes[-1].why
    if average == 8:
        assert set(bits.values()) == {8}


@pytest.mark.parametrize("average", [4, 5])
def test_it_is_no_worse_than_the_same_bits_for_all(model, average):
    seen = [
        joint_error(model.parts["vision"], quantised(model, **o).model.parts["vision"], FEEDS)
        for o in (
            {"average_bits": float(average), "method": "mse"},
            {"bits": average, "method": "mse"},
        )
    ]
    assert seen[0] < seen[1]


def test_more_bits_never_lose_more(model):
    sums = []
    for average in (3.0, 3.5, 4.0, 5.0, 6.0, 8.0):
        found = records(quantised(model, average_bits=average, method="mse").model.parts["vision"])
        sums.append(sum(row["loss"] for row in found.values()))
    assert sums == sorted(sums, reverse=True) and sums[-1] < sums[0]


def test_a_rule_that_says_how_many_bits_is_kept(model):
    rules = [{"match": "vision/a", "bits": 8}]
    found = records(
        quantised(model, average_bits=3.0, method="mse", layers=rules).model.parts["vision"]
    )
    assert found["p"]["bits"] == 8 and "loss" not in found["p"]
    assert {row["bits"] for name, row in found.items() if name != "p"} == {3}


def test_outliers_and_their_places_are_paid_for():
    scheme = Scheme(bits=4, method="dasq", outliers=0.02, outlier_bits=4)
    assert stored_bits(scheme, 1024) == pytest.approx(4 + 0.02 * (4 + 10))
    assert stored_bits(Scheme(bits=4), 1024) == 4


def test_too_small_an_average_is_refused_with_the_least(model):
    with pytest.raises(UsageFault) as caught:
        quantised(model, average_bits=3.1, method="dasq-gptq", bits=4)
    assert caught.value.code == "EV202" and "outliers included" in caught.value.why


def test_shared_weights_of_a_real_decoder_get_the_same_bits(micro_model, micro_probes):
    seen = observe(micro_model, micro_probes)
    after = quantised(micro_model, seen, average_bits=4.5, method="mse").model
    bits = [sorted(r["bits"] for r in records(after.parts[p]).values() if r["kind"] == "product")
            for p in ("prefill", "decode")]  # fmt: skip
    assert bits[0] == bits[1] and len(set(bits[0])) > 1


def test_a_vision_layer_is_judged_by_the_logits_of_the_answer(tiny_model, tiny_probes):
    """One layer rounded in the model itself, and the whole chain run."""
    seen = observe(tiny_model, tiny_probes)
    for role in ("vision", "connector"):
        part, feeds = tiny_model.parts[role], [f[role] for f in seen.feeds]
        stored = [n for n in part.graph if n.op_type == "MatMul" and n.inputs[1].is_initializer()]
        layer, follow = Layer.of(stored[0]), to_logits(tiny_model.parts, seen, role)
        coarse = to_nearest(layer.rows(), Grid(2), 0, "max").weights()
        (found,) = sensitivities(part, [layer], lambda _, c=coarse: c, feeds, follow)
        clone = part.clone()
        weight = clone.graph.initializers[layer.weight.name]
        weight.const_value = ir.tensor(layer.unrolled(coarse).astype(np.float32), name=weight.name)
        after = observe(tiny_model.with_parts(**{role: clone}), tiny_probes)
        errors = [np.square(a.astype(float) - b).sum() / np.square(a.astype(float)).sum()
                  for a, b in zip(seen.logits, after.logits, strict=True)]  # fmt: skip
        assert found == pytest.approx(np.mean(errors), rel=1e-3)
