"""int8 and float16 caches called as float ones: the law of rounding, and broken sides."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.compiler.drift import EXACT_DB, measure
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts, open_session
from edgevlm.compiler.matching import compare_outputs
from edgevlm.compiler.narrow_cache import as_codes, cache_scales, float_sides, rows_read
from edgevlm.compiler.pass_base import Effect, Pass, PassResult
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import observe
from edgevlm.passes.precision.cast_half import CastHalf
from edgevlm.passes.quantize.quantize_kv import QuantizeKv

SHAPE = (1, 2, 5, 3)
ROWS = arrays(np.float32, SHAPE, elements=st.floats(-1e4, 1e4, width=32))
SCALES = arrays(np.float32, 2, elements=st.floats(2.0**-10, 2.0**6, width=32))


@pytest.fixture(scope="module")
def rounded(make_micro, micro_probes):
    model = make_micro(layers=2, heads=4, kv_heads=2, width=16)
    step = QuantizeKv()
    step.calibration = observe(model, micro_probes)
    return model, step(model).model


@pytest.fixture(scope="module")
def there_and_back(graph):
    text = """(float[1,2,5,3] x, float[2] s) => (int8[1,2,5,3] q, float[1,2,5,3] y) {
        q = QuantizeLinear<axis = 1, output_dtype = 3>(x, s)
        y = DequantizeLinear<axis = 1>(q, s) }"""
    return open_session(graph(text))


@given(ROWS, SCALES)
def test_codes_are_those_of_onnx_runtime_and_within_half_a_step(there_and_back, rows, scale):
    q, y = there_and_back.run(None, {"x": rows, "s": scale})
    codes = as_codes({"past_key_0": rows, "other": rows}, {"key_0": scale})
    np.testing.assert_array_equal(codes["past_key_0"], q)
    assert codes["past_key_0"].dtype == np.int8 and codes["other"] is rows
    steps = rows.astype(np.float64) / scale.astype(np.float64)[:, None, None]
    inside = np.abs(steps) <= 127
    error = np.abs(y.astype(np.float64) - rows) / scale[:, None, None]
    assert (error[inside] <= 0.5 + 1e-4).all()
    assert (q[steps > 127.5] == 127).all() and (q[steps < -128.5] == -128).all()


@given(ROWS, SCALES)
def test_rounding_again_changes_nothing(there_and_back, rows, scale):
    q, y = there_and_back.run(None, {"x": rows, "s": scale})
    np.testing.assert_array_equal(as_codes({"past_key_0": y}, {"key_0": scale})["past_key_0"], q)


def test_both_sides_speak_float_and_only_of_rows_that_are_read(rounded, micro_probes):
    model, after = rounded
    feeds = observe(model, micro_probes).feeds[0]
    scales = cache_scales(after)
    before, caller = float_sides(model, after, ReferenceParts(after.parts), scales)
    read = rows_read(model.contract, 0, feeds["prefill"])
    assert read == int(feeds["prefill"]["last_index"][0]) + 1 < model.contract.prefill_length
    for role in ("prefill", "decode"):
        want, got = before.call(role, feeds[role]), caller.call(role, feeds[role])
        for name, scale in scales.items():
            assert got[name].dtype == np.float32
            assert got[name].shape == want[name].shape
            assert want[name].shape[2] == (read if role == "prefill" else 1)
            assert (np.abs(want[name] - got[name]) <= scale[:, None, None] * 20).all()
    plain = ReferenceParts(after.parts)
    assert float_sides(model, model, plain, {})[1] is plain and cache_scales(model) == {}


def test_pruned_layers_have_fewer_rows(rounded):
    contract = rounded[0].contract.model_copy(update={"layer_tokens": (9, 3)})
    feeds = {"last_index": np.array([12])}
    assert (rows_read(contract, 0, feeds), rows_read(contract, 1, feeds)) == (13, 7)


def spoiled(model, role, port, edit):
    """A model one of whose ports is rounded otherwise."""
    part = model.parts[role].clone()
    for node in part.graph:
        values = [str(v.name) for v in (*node.outputs, *node.inputs) if v is not None]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and port in values:
            edit(part, node)
    return model.with_parts(**{role: part})


def other_scale(part, node):
    array = node.inputs[1].const_value.numpy() * np.float32(1.5)
    value = ir.Value(name="other", const_value=ir.tensor(array, name="other"))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
    part.graph.register_initializer(value)
    node.replace_input_with(1, value)


def no_scale(part, node):
    value = ir.Value(name="late", shape=ir.Shape([2]), type=ir.TensorType(ir.DataType.FLOAT))
    node.replace_input_with(1, value)


@pytest.mark.parametrize(
    ("role", "port"), [("prefill", "key_1"), ("decode", "value_0"), ("decode", "past_key_0")]
)
@pytest.mark.parametrize("edit", [other_scale, no_scale])
def test_sides_that_do_not_match_are_a_bug_of_ours(rounded, role, port, edit):
    with pytest.raises(JobFault, match="EV501") as caught:
        cache_scales(spoiled(rounded[1], role, port, edit))
    assert port.removeprefix("past_") in caught.value.what
    assert ("different" if edit is other_scale else "no scale") in caught.value.what


def pass_of(made, effect):
    members = {
        "name": "wrong", "summary": "wrong", "effect": effect,
        "run": lambda self, model: PassResult(made, True),
    }  # fmt: skip
    return type("Wrong", (Pass,), members)()


@pytest.mark.parametrize("effect", [Effect.EXACT, Effect.APPROXIMATE])
def test_the_check_takes_rounded_caches_from_approximate_passes_alone(
    rounded, micro_probes, effect
):
    model, after = rounded
    if effect is Effect.APPROXIMATE:
        _, record, _ = run_passes(model, [pass_of(after, effect)], micro_probes)
        assert set(record[0].check.drift) == {"prefill", "decode"}
    else:
        with pytest.raises(JobFault, match="EV501"):
            run_passes(model, [pass_of(after, effect)], micro_probes)


def test_the_check_finds_a_cache_that_is_read_wrongly(rounded, micro_probes):
    """Codes and scales of all sides match; decode reads the keys of one layer for the other's."""
    model, after = rounded
    part = after.parts["decode"].clone()
    read = {
        str(n.inputs[0].name): n.outputs[0] for n in part.graph if n.op_type == "DequantizeLinear"
    }
    one, other = read["past_key_0"], read["past_key_1"]
    uses = [(one, list(other.uses())), (other, list(one.uses()))]
    for value, users in uses:
        for node, place in users:
            node.replace_input_with(place, value)
    wrong = pass_of(after.with_parts(decode=part), Effect.APPROXIMATE)
    with pytest.raises(JobFault, match="EV206") as caught:
        run_passes(model, [wrong], micro_probes)
    assert "part decode" in caught.value.what


def test_a_code_on_the_edge_is_no_drift_and_a_number_is(rounded, micro_probes):
    """Behind it, an exact pass may reorder a sum: the 80 dB it owes are not those of one code."""
    feeds = observe(rounded[1], micro_probes).feeds[0]["prefill"]
    want = ReferenceParts(rounded[1].parts).call("prefill", feeds)
    got = {name: value.copy() for name, value in want.items()}
    got["key_0"].flat[0] -= np.sign(got["key_0"].flat[0])
    found, _ = compare_outputs(want, got)
    assert {c.drift.where: c.drift.sqnr_db for c in found}["key_0"] == EXACT_DB
    assert measure(want["key_0"], got["key_0"], "as numbers").sqnr_db < 80
    got["logits"] = got["logits"] * np.float32(1.01)
    found, _ = compare_outputs(want, got)
    assert {c.drift.where: c.drift.sqnr_db for c in found}["logits"] == pytest.approx(40, abs=0.1)


@pytest.fixture(scope="module")
def halved(rounded, micro_probes):
    """The model, and the same with caches of float16."""
    step = CastHalf()
    step.calibration = observe(rounded[0], micro_probes)
    return rounded[0], step(rounded[0]).model


def test_half_caches_are_called_as_float_ones(halved, micro_probes):
    model, after = halved
    assert after.contract.kv_dtype == "FLOAT16" and cache_scales(after) == {}
    feeds = observe(model, micro_probes).feeds[0]
    before, caller = float_sides(model, after, ReferenceParts(after.parts), {})
    read = rows_read(model.contract, 0, feeds["prefill"])
    assert all(x.dtype != np.float16 for x in feeds["decode"].values())
    own = ReferenceParts(after.parts)
    for role in ("prefill", "decode"):
        want, got = before.call(role, feeds[role]), caller.call(role, feeds[role])
        half = {n: x.astype(np.float16) for n, x in feeds[role].items() if n.startswith("past_")}
        theirs = own.call(role, {**feeds[role], **half})
        for name in ("key_0", "value_0", "key_1", "value_1"):
            assert theirs[name].dtype == np.float16 and got[name].dtype == np.float32
            assert want[name].shape == got[name].shape
            assert want[name].shape[2] == (read if role == "prefill" else 1)
            np.testing.assert_array_equal(got[name], theirs[name][:, :, : got[name].shape[2]])
            assert 40 < measure(want[name], got[name], name).sqnr_db < 120
        assert measure(want["logits"], got["logits"], "logits").sqnr_db > 40


def test_of_two_models_with_half_caches_nothing_is_turned(halved, micro_probes):
    """Both take and give what they say: float16, all rows."""
    after = halved[1]
    parts = ReferenceParts(after.parts)
    source, caller = float_sides(after, after, parts, {})
    assert caller is parts and isinstance(source, ReferenceParts)
    feeds = observe(after, micro_probes).feeds[0]
    assert feeds["decode"]["past_key_0"].dtype == np.float16
    assert source.call("decode", feeds["decode"])["key_0"].dtype == np.float16


@pytest.mark.parametrize("effect", [Effect.EXACT, Effect.APPROXIMATE])
def test_half_caches_are_taken_from_approximate_passes_alone(halved, micro_probes, effect):
    model, after = halved
    if effect is Effect.APPROXIMATE:
        _, (record,), seen = run_passes(model, [pass_of(after, effect)], micro_probes)
        assert {"prefill", "decode"} <= set(record.check.drift)
        assert seen.feeds[0]["decode"]["past_value_1"].dtype == np.float16
    else:
        with pytest.raises(JobFault, match="EV501"):
            run_passes(model, [pass_of(after, effect)], micro_probes)
