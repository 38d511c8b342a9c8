"""What the scales of int8 KV caches are fitted to, and what has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.narrow_cache import cache_scales
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.compiler.reference import Reference, observe
from edgevlm.passes import make_passes
from edgevlm.passes.quantize.quantize_kv import QuantizeKv


def quantised(model, probes, **options):
    step = QuantizeKv(**options)
    step.calibration = observe(model, probes)
    return step(model).model


def test_ranges_and_headroom_are_options(tiny_model, tiny_probes):
    def scales(**options):
        return np.concatenate(
            list(cache_scales(quantised(tiny_model, tiny_probes, **options)).values())
        )

    top = scales()
    np.testing.assert_allclose(scales(headroom=1.5), 1.5 * top, rtol=1e-6)
    for how in ({"range": "percentile", "percentile": 99.0}, {"range": "mse"}):
        found = scales(**how)
        assert (found <= top).all() and (found < 0.99 * top).any()


def test_a_head_that_is_always_zero_gets_scale_one(make_micro, micro_probes):
    model = make_micro(layers=1, heads=4, kv_heads=2, width=16)
    parts = {}
    for role in ("prefill", "decode"):
        part = parts[role] = model.parts[role].clone()
        weight = part.graph.initializers["wv_0"]
        array = weight.const_value.numpy().copy()
        array[:, :4] = 0  # of the first of two heads
        weight.const_value = ir.tensor(array, name="wv_0")
    scale = cache_scales(quantised(model.with_parts(**parts), micro_probes))["value_0"]
    assert scale[0] == 1 and scale[1] != 1


def broken(model, factor):
    """Calibration that saw `factor` times the rows of decode."""
    seen = observe(model, [])
    rows = {name: np.full((1, 1, 1, 4), factor, np.float32) for name in ("key_0", "value_0")}
    return replace(seen, rows=[[rows]])


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_what_has_no_range_is_told_in_three_lines(micro_model, value):
    step = QuantizeKv()
    step.calibration = Reference([], [], []) if value is None else broken(micro_model, value)
    with pytest.raises(JobFault, match="EV240") as caught:
        step(micro_model)
    assert "KV cache key_0" in caught.value.what and "--calib" in caught.value.fix
    said = "no number came" if value is None else "NaN or infinite"
    assert said in caught.value.why and "one type" in caught.value.why


def test_rows_of_decode_alone_are_rows(micro_model):
    step = QuantizeKv()
    step.calibration = broken(micro_model, 12.7)
    np.testing.assert_allclose(cache_scales(step(micro_model).model)["key_0"], [0.1], rtol=1e-6)


def test_wrong_calls(graph, solo, micro_model):
    with pytest.raises(UsageFault, match="EV220") as caught:
        QuantizeKv()(solo(graph("(float[1,4] x) => (float[1,4] y) { y = Tanh(x) }")))
    assert "without a decoder" in caught.value.what and "--kv" in caught.value.fix
    with pytest.raises(JobFault, match="EV501"):
        QuantizeKv()(micro_model)  # nobody observed it
    for options in ({"range": "entropy"}, {"percentile": 10.0}, {"headroom": 0.5}):
        with pytest.raises(UsageFault, match="EV202"):
            QuantizeKv(**options)
    for late in ("keep-tokens", "quantize-weights", "quantize-activations", "smooth-activations"):
        options = {"keep": 4} if late == "keep-tokens" else {}
        with pytest.raises(UsageFault, match="EV205"):
            make_passes(Recipe("cpu", (Step("quantize-kv"), Step(late, options))))
