"""Smoothing leaves the function alone, evens out channels, and keeps weights shared."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import save_model
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.smooth_activations import SmoothActivations

RNG = np.random.default_rng(0)
GAIN = np.ones(8, np.float32)
GAIN[3] = 50  # a channel that is always large
WEIGHTS = {n: RNG.normal(size=(8, 6)).astype(np.float32) for n in ("q", "k")}
WEIGHTS |= {"up": RNG.normal(size=(8, 8)).astype(np.float32), "down": WEIGHTS["q"]}
MLP = """(float[1,5,8] x) => (float[1,5,6] y) {
    n = RMSNormalization<axis = -1>(x, gain) u = MatMul(n, up) s = Sigmoid(x)
    h = Mul(s, u) y = MatMul(h, down) }"""


def used(text, **more):
    """The constants that a graph's text names."""
    return {name: a for name, a in {"gain": GAIN, **WEIGHTS, **more}.items()
            if re.search(rf"\b{name}\b", text)}  # fmt: skip


def watched(*feeds, role="vision"):
    return Reference([{role: feed} for feed in feeds], [], [])


def smoothed(model, *feeds, **options):
    step = SmoothActivations(**options)
    step.calibration = watched(*feeds)
    return step(model)


def feed(seed=0):
    return {"x": np.random.default_rng(seed).normal(size=(1, 5, 8)).astype(np.float32)}


def gain_of(part, op="LayerNormalization"):
    return next(n for n in part.graph if n.op_type == op).inputs[1].const_value.numpy()


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("bias", ["", ", bias"])
def test_a_norm_takes_it_up(graph, solo, ort, alpha, bias):
    text = f"""(float[1,5,8] x) => (float[1,5,6] a, float[1,5,6] b) {{
        n = LayerNormalization<axis = -1>(x, gain{bias}) a = MatMul(n, q) b = MatMul(n, k) }}"""
    model = solo(graph(text, **used(text, bias=RNG.normal(size=8).astype(np.float32))))
    made = smoothed(model, feed(), alpha=alpha).model.parts["vision"]
    before, after = (ort(p, **feed(7)) for p in (model.parts["vision"], made))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-4)
    gain = np.abs(gain_of(made))
    assert gain.max() / gain.min() < 3 * 50 ** (1 - alpha)  # it was 50
    assert len(made.graph) == len(model.parts["vision"].graph)  # nothing was added


def test_an_up_projection_takes_it_up(graph, solo, ort):
    model = solo(graph(MLP, **used(MLP)))
    result = smoothed(model, feed())
    made = result.model.parts["vision"]
    assert "2 smoothed" in result.notes[-1].why  # of up, behind the norm, and of down
    before, after = (ort(p, **feed(3))["y"] for p in (model.parts["vision"], made))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    assert not any(np.array_equal(i.const_value.numpy(), WEIGHTS["up"])
                   for i in made.graph.initializers.values())  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "n = LayerNormalization<axis = -1>(x, gain) t = Tanh(n) y = MatMul(n, q) z = MatMul(t, q)",
        "n = Gelu(x) y = MatMul(n, q) z = MatMul(x, q)",
        "n = LayerNormalization<axis = -1>(x, x2) y = MatMul(n, q) z = MatMul(x, q)",
        "u = MatMul(x, up) h = Mul(u, u) y = MatMul(h, q) z = MatMul(u, q)",
    ],
)
def test_what_nothing_can_take_up_is_left_alone(graph, solo, body):
    """Read by something else; behind a GELU; a gain that is computed; a maker others read."""
    text = f"(float[1,5,8] x, float[8] x2) => (float[1,5,6] y, float[1,5,6] z) {{ {body} }}"
    assert not smoothed(solo(graph(text, **used(body))), {**feed(), "x2": GAIN}).changed


def test_nothing_seen_and_nothing_finite(graph, solo):
    model = solo(graph(MLP, **used(MLP)))
    for feeds in ((), ({"x": np.full((1, 5, 8), np.nan, np.float32)},)):
        result = smoothed(model, *feeds)
        assert not result.changed and "never seen finite" in result.notes[0].why
    zero = smoothed(model, {"x": np.zeros((1, 5, 8), np.float32)})
    assert not zero.changed  # channels of zeros: nothing to divide
    with pytest.raises(JobFault, match="EV501"):
        SmoothActivations()(model)


def test_a_whole_model_is_the_same_and_quantises_better(tiny_model, tiny_probes, tmp_path):
    plain, smooth = (
        run_passes(tiny_model, [*first, QuantizeWeights(), QuantizeActivations()], tiny_probes)
        for first in ((), (SmoothActivations(),))
    )
    exact = smooth[1][0].check
    assert exact.agree == len(tiny_probes)
    assert min(d.sqnr_db for d in exact.drift.values()) > 80
    assert smooth[1][-1].check.logits.sqnr_db > plain[1][-1].check.logits.sqnr_db + 3
    sizes = []
    for name, (model, _, _) in (("plain", plain), ("smooth", smooth)):
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name)
        sizes.append((tmp_path / name / "weights.bin").stat().st_size)
    assert sizes[1] < 1.01 * sizes[0]  # prefill and decode still share theirs
