"""int8 inputs: integer arithmetic by hand, what is left alone, and whole models."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler import watch as module
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

LINEAR = ("QuantizeLinear", "DequantizeLinear")
RNG = np.random.default_rng(0)
W = {name: RNG.normal(size=(8, 4)).astype(np.float32) for name in "abc"}


def watched(*feeds, role="vision"):
    return Reference([{role: feed} for feed in feeds], [], [])


def quantised(model, calibration, **options):
    step = QuantizeActivations(**options)
    step.calibration = calibration
    return step(QuantizeWeights(min_elements=1)(model).model)


def ops(part, name):
    return [node for node in part.graph if node.op_type == name]


@pytest.fixture
def three(graph, solo):
    """Two products of one value, one of another, and one of what nothing is known of."""
    return solo(graph(
        """(float[1,5,8] x, float[1,5,8] y) => (float[1,5,4] p, float[1,5,4] q, float[1,5,4] r) {
        p = MatMul(x, a) q = MatMul(x, b) t = Tanh(y) r = MatMul(t, c) }""", **W
    ))  # fmt: skip


def test_a_product_is_that_of_the_integers(three, ort):
    x, y = (RNG.normal(size=(1, 5, 8)).astype(np.float32) * 3 for _ in "xy")
    made = quantised(three, watched({"x": x, "y": y}), range="max").model.parts["vision"]
    found = ort(made, x=2 * x, y=y)  # twice what was seen: clipped
    for name, weight, value in (("p", W["a"], 2 * x), ("r", W["c"], np.tanh(y))):
        scale = np.float32(np.abs(x if name == "p" else np.tanh(y)).max() / 127)
        integers = np.clip(np.rint(value / scale), -128, 127).astype(np.int64)
        s = np.abs(weight).max(0) / np.float32(127)
        stored = np.rint(weight / s)
        wanted = (integers @ stored.astype(np.int64)) * (np.float64(scale) * s)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)


def test_a_shared_value_is_quantised_once(three):
    feed = {"x": np.ones((1, 5, 8), np.float32), "y": np.ones((1, 5, 8), np.float32)}
    result = quantised(three, watched(feed))
    part = result.model.parts["vision"]
    assert len(ops(part, "QuantizeLinear")) == 2  # x and tanh y
    assert len(ops(part, "DequantizeLinear")) == 3 + 3  # weights, and one a product
    assert all(len(n.inputs) == 2 for op in LINEAR for n in ops(part, op))
    assert all(n.outputs[0].dtype == ir.DataType.INT8 for n in ops(part, "QuantizeLinear"))
    assert "3 products" in result.notes[-1].why
    again = QuantizeActivations()
    again.calibration = watched(feed)
    assert not again(result.model).changed


def test_all_that_came_counts_whatever_is_held_at_once(three, monkeypatch):
    feeds = [
        {n: RNG.normal(size=(1, 5, 8)).astype(np.float32) * k for n in "xy"} for k in (1, 5, 2)
    ]

    def scales(calibration):
        part = quantised(three, calibration).model.parts["vision"]
        return [float(n.inputs[1].const_value.numpy()) for n in ops(part, "QuantizeLinear")]

    whole = scales(watched(*feeds))
    assert whole == scales(watched(*feeds[::-1])) and whole[0] == pytest.approx(
        max(np.abs(f["x"]).max() for f in feeds) / 127
    )
    assert scales(watched(feeds[0])) != whole  # one picture is enough to have a range
    monkeypatch.setattr(module, "WATCHED_BYTES", 1)
    assert scales(watched(*feeds)) == whole


def test_ranges_are_an_option(three):
    x = RNG.normal(size=(1, 5, 8)).astype(np.float32)
    x[0, 0, 0] = 100
    feed = watched({"x": x, "y": x})
    reach = {
        how: float(ops(quantised(three, feed, range=how).model.parts["vision"], "QuantizeLinear")[0]
                   .inputs[1].const_value.numpy()) * 127
        for how in ("max", "percentile", "mse", "entropy")
    }  # fmt: skip
    assert reach["max"] == pytest.approx(100) and max(reach.values()) == reach["max"]


def test_what_cannot_be_is_skipped_with_the_reason(three):
    y = np.zeros((1, 5, 8), np.float32)
    result = quantised(three, watched({"x": np.full_like(y, np.nan), "y": y}))
    (note,) = [n for n in result.notes if n.kind == "skipped"]
    assert note.where == "vision/x" and "NaN" in note.why
    part = result.model.parts["vision"]
    (only,) = ops(part, "QuantizeLinear")
    assert float(only.inputs[1].const_value.numpy()) == 1  # of tanh 0, a constant
    assert not quantised(three, watched()).changed  # nothing was seen at all


def test_float_weights_keep_float_inputs(three):
    step = QuantizeActivations()
    step.calibration = watched({n: np.ones((1, 5, 8), np.float32) for n in "xy"})
    assert not step(three).changed


def test_wrong_calls(three):
    with pytest.raises(JobFault, match="EV501"):
        QuantizeActivations()(three)
    for options, said in (({"parts": ["prefil"]}, "prefil"), ({"range": "best"}, "range"),
                          ({"percentile": 10.0}, "percentile")):  # fmt: skip
        with pytest.raises(UsageFault, match="EV202") as caught:
            quantised(three, watched(), **options)
        assert said in caught.value.what


def test_a_whole_model_answers_as_before(tiny_model, tiny_probes):
    passes = [QuantizeWeights(), QuantizeActivations()]
    model, record, seen = run_passes(tiny_model, passes, tiny_probes)
    check = record[-1].check
    assert check.agree == len(tiny_probes) and set(check.drift) == {
        "vision", "connector", "prefill", "decode",
    }  # fmt: skip
    assert all(25 < d.sqnr_db < 60 for d in check.drift.values())
    for part in model.parts.values():
        for node in ops(part, "MatMul"):
            weight = node.inputs[1].producer()
            if weight is not None and weight.op_type == "DequantizeLinear":
                assert node.inputs[0].producer().op_type == "DequantizeLinear"
    assert seen.answers == observe(model, tiny_probes).answers


def test_one_part_alone(tiny_model, tiny_probes):
    steps = [QuantizeWeights(), QuantizeActivations(parts=["vision"])]
    model, _, _ = run_passes(tiny_model, steps, tiny_probes)
    counts = {role: len(ops(part, "QuantizeLinear")) for role, part in model.parts.items()}
    assert counts.pop("vision") > 8 and not any(counts.values())


def test_padding_of_a_prompt_counts_for_nothing(micro_model, micro_probes):
    """Rows behind the question are whatever they are; those in front do not see them."""
    found = []
    for size in (0, 100):  # in one channel: what a norm makes its largest number
        seen = observe(micro_model, micro_probes)
        for feeds in seen.feeds:
            last = int(feeds["prefill"]["last_index"][0])
            embeds = feeds["prefill"]["inputs_embeds"].copy()
            embeds[:, last + 1 :] = 0.01
            embeds[:, last + 1 :, 0] += size
            feeds["prefill"] = {**feeds["prefill"], "inputs_embeds": embeds}
        part = quantised(micro_model, seen).model.parts["prefill"]
        found.append([float(n.inputs[1].const_value.numpy()) for n in ops(part, "QuantizeLinear")])
    assert found[0] == found[1] and len(found[0]) > 3
