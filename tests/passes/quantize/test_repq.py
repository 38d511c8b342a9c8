"""RepQ's re-parameterisation: every channel behind a norm gets one range around 0, exactly."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference
from edgevlm.passes.quantize.compensation.one_range import one_range
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.smooth_activations import SmoothActivations

RNG = np.random.default_rng(0)
NORM = "n = LayerNormalization<axis = -1>(x, gain, bias)"
ADD, BARE = "p = MatMul(n, a) y = Add(p, c)", "p = MatMul(n, a) y = Relu(p)"
TWO = "p = MatMul(n, a) q = MatMul(n, b) r = Add(c, q) s = Relu(p) y = Add(r, s)"


@pytest.fixture
def part(graph):
    def make(body):
        text = f"(float[1,5,8] x) => (float[1,5,6] y) {{ {body} }}"
        arrays = {
            "gain": np.geomspace(0.1, 10, 8),
            "bias": np.linspace(-20, 20, 8),
            "a": RNG.normal(size=(8, 6)),
            "b": RNG.normal(size=(8, 6)),
            "c": RNG.normal(size=6),
        }
        arrays = {n: v.astype(np.float32) for n, v in arrays.items()}
        return graph(text, **{n: v for n, v in arrays.items() if re.search(rf"\b{n}\b", text)})

    return make


def feeds(count=8):
    rng = np.random.default_rng(3)
    return [{"x": rng.normal(size=(1, 5, 8)).astype(np.float32)} for _ in range(count)]


def after(model, *steps):
    for step in steps:
        step.calibration = Reference([{"vision": f} for f in feeds()], [], [])
        model = step(model).model
    return model.parts["vision"]


def normed(part, ort):
    """What the norm gives over all feeds, [T,8]."""
    clone = part.clone()
    clone.graph.outputs.append(next(n for n in clone.graph if "Norm" in n.op_type).outputs[0])
    return np.concatenate([list(ort(clone, **f).values())[-1].reshape(-1, 8) for f in feeds()])


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), min_size=1, max_size=9),
    st.booleans(),
)
def test_one_range_for_all(rows, centred):
    low = np.array([a for a, _ in rows])
    high = low + [b if b > 1e-2 else 0.0 for _, b in rows]
    ratio, centre = one_range(low, high, centred)
    assert (ratio > 0).all() and (centred or not centre.any())
    half = np.maximum(np.abs(low - centre), np.abs(high - centre))
    moving = half > 1e-3 * half.max() + 1e-9  # next to nothing is not blown up without end
    half /= ratio
    if moving.any():
        if moving.sum() == (half > 0).sum():
            assert np.isclose(ratio[moving].mean(), 1)  # the layer's range is the mean range
        assert np.allclose(half[moving], half[moving][0])  # one range ...
        if centred:  # ... with 0 in the middle
            assert np.allclose((low - centre)[moving], -(high - centre)[moving])


@pytest.mark.parametrize("body", [ADD, BARE, TWO], ids=["bias", "no bias", "two products"])
def test_channels_behind_a_norm_have_one_range_around_zero(part, solo, ort, body):
    model = part(f"{NORM} {body}")
    made = after(solo(model), SmoothActivations(how="repq"))
    for feed in feeds(2):
        assert measure(ort(model, **feed)["y"], ort(made, **feed)["y"], "y").sqnr_db > 100
    rows = normed(made, ort)
    assert np.ptp(rows.max(0)) < 1e-3 and np.abs(rows.max(0) + rows.min(0)).max() < 1e-3
    assert np.ptp(normed(model, ort).max(0)) > 10
    assert len(made.graph) - len(model.graph) == body.count("Relu")  # an Add where there was none


@pytest.mark.parametrize(
    ("norm", "body"),
    [("n = RMSNormalization<axis = -1>(x, gain)", ADD), (NORM.replace(", bias", ""), ADD)],
    ids=["RMSNorm", "no bias"],
)
def test_without_a_bias_only_the_scale_moves(part, solo, ort, norm, body):
    model = part(f"{norm} {body}")
    made = after(solo(model), SmoothActivations(how="repq"))
    assert measure(ort(model, **feeds()[0])["y"], ort(made, **feeds()[0])["y"], "y").sqnr_db > 100
    assert np.ptp(np.abs(normed(made, ort)).max(0)) < 1e-3
    assert len(made.graph) == len(model.graph)


def test_a_product_whose_output_leaves_the_part_gets_no_shift(part, solo):
    made = after(solo(part(f"{NORM} y = MatMul(n, a)")), SmoothActivations(how="repq"))
    assert [n.op_type for n in made.graph] == ["LayerNormalization", "MatMul"]


def test_a_gemm_takes_the_shift_in_its_bias(graph, solo, ort):
    text = """(float[5,8] x) => (float[5,6] y) {
        n = LayerNormalization<axis = -1>(x, gain, bias) p = Gemm<transB = 1>(n, a, c)
        y = Relu(p) }"""
    arrays = {"gain": np.geomspace(0.1, 10, 8), "bias": np.linspace(-20, 20, 8),
              "a": RNG.normal(size=(6, 8)), "c": RNG.normal(size=6)}  # fmt: skip
    model = graph(text, **{n: v.astype(np.float32) for n, v in arrays.items()})
    step = SmoothActivations(how="repq")
    runs = [{"x": f["x"][0]} for f in feeds()]
    step.calibration = Reference([{"vision": f} for f in runs], [], [])
    result = step(solo(model))
    assert "1 smoothed, 1 centred" in result.notes[-1].why
    made = result.model.parts["vision"]
    assert measure(ort(model, **runs[0])["y"], ort(made, **runs[0])["y"], "y").sqnr_db > 100
    assert [n.op_type for n in made.graph] == [n.op_type for n in model.graph]


def test_it_buys_int8_inputs_that_lie_off_centre(part, solo, ort):
    model, worst = part(f"{NORM} {ADD}"), {}
    for how in ("smoothquant", "repq"):
        steps = SmoothActivations(how=how), QuantizeWeights(min_elements=1), QuantizeActivations()
        made = after(solo(model), *steps)
        pairs = [(ort(model, **f)["y"], ort(made, **f)["y"]) for f in feeds()]
        worst[how] = min(measure(a, b, "y").sqnr_db for a, b in pairs)
    assert worst["repq"] > worst["smoothquant"] + 3


def test_a_vision_tower_is_the_same_and_parts_can_be_named(tiny_model, tiny_probes):
    steps = [
        SmoothActivations(how="repq", parts=("vision",)),
        SmoothActivations(parts=("prefill", "decode")),
    ]
    _, record, _ = run_passes(tiny_model, steps, tiny_probes)
    assert [set(r.check.drift) for r in record] == [{"vision"}, {"prefill", "decode"}]
    assert all(d.sqnr_db > 80 for r in record for d in r.check.drift.values())
    for parts in (("prefill",), ("head",)):
        with pytest.raises(UsageFault, match="EV202"):
            SmoothActivations(parts=parts)(tiny_model)
