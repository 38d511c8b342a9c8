"""int8 KV caches: scales from what was cached, codes by hand, and a loop rounded by numpy alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.generate import encode_image, generate
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.quantised import check_symmetric
from edgevlm.compiler.reference import observe
from edgevlm.compiler.validate import validate
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.tokens.keep_tokens import KeepTokens

LINEAR = ("QuantizeLinear", "DequantizeLinear")
CASES = ["tiny", "tiny pruned", "micro", "micro pruned"]


@pytest.fixture(scope="module", params=CASES)
def case(request, tiny_model, tiny_probes, make_micro, micro_probes):
    """A model, float and rounded, and its probes; pruned: layers whose caches differ in length."""
    model, probes = tiny_model, tiny_probes
    if "micro" in request.param:
        model, probes = make_micro(layers=3, heads=4, kv_heads=2, width=16), micro_probes
    if "pruned" in request.param:
        for at, keep in (("connector-out", 6), ("llm:1", 4), ("llm:2", 0)):
            model = KeepTokens(keep=keep, at=at)(model).model
    return model, quantised(model, probes), probes


def quantised(model, probes, **options):
    step = QuantizeKv(**options)
    step.calibration = observe(model, probes)
    return step(model).model


def caches(contract):
    return [f"{kind}_{i}" for i in range(contract.layers) for kind in ("key", "value")]


def linear(part, port):
    """The node at a port, found by name: what makes an output, what reads an input."""
    for node in part.graph:
        if node.op_type in LINEAR and port in (node.outputs[0].name, node.inputs[0].name):
            return node
    raise AssertionError(f"nothing rounds {port}")


def scale_of(part, port):
    return linear(part, port).inputs[1].const_value.numpy()


class Spy:
    """Parts of a float model; what prefill and decode put into the caches goes through `cached`."""

    def __init__(self, model, cached):
        self.parts, self.contract, self.cached = ReferenceParts(model.parts), model.contract, cached

    def call(self, role, feeds):
        out = self.parts.call(role, feeds)
        if role in ("prefill", "decode"):
            for name in caches(self.contract):
                out[name] = self.cached(role, name, out[name], feeds)
        return out


def say(model, parts, probe, limit):
    """Token ids and the logits of every step, end tokens passed over."""
    image, logits = encode_image(model.contract, parts, probe.pixel_values), []
    words = (probe.before, probe.after, ())
    said = list(
        generate(model.contract, parts, image, *words, max_new=limit, on_logits=logits.append)
    )
    return said, logits


def test_both_sides_have_the_same_scale_a_head_and_no_zero_point(case):
    _, rounded, _ = case
    prefill, decode = rounded.parts["prefill"], rounded.parts["decode"]
    for name in caches(rounded.contract):
        scale = scale_of(prefill, name)
        assert scale.shape == (rounded.contract.kv_heads,) and scale.dtype == np.float32
        assert (scale > 0).all()
        for port in (name, f"past_{name}"):
            np.testing.assert_array_equal(scale_of(decode, port), scale)
        for part, port in ((prefill, name), (decode, name), (decode, f"past_{name}")):
            node = linear(part, port)
            assert len(node.inputs) == 2 and node.attributes.get_int("axis") == 1
    check_symmetric(rounded)


def test_only_ports_are_rounded_and_both_sides_attend_to_their_own_rows_as_float(case):
    model, rounded, _ = case
    for role in ("prefill", "decode"):
        for node in rounded.parts[role].graph:
            if node.op_type == "QuantizeLinear":
                assert node.outputs[0].is_graph_output() and not node.outputs[0].uses()
                assert node.inputs[0].dtype == ir.DataType.FLOAT
                assert len(list(node.inputs[0].uses())) > 1  # attention reads it, too
    assert [r for r in model.parts if rounded.parts[r] is not model.parts[r]] == [
        "prefill", "decode",
    ]  # fmt: skip
    validate(rounded)


def test_the_source_is_left_as_it_was(case):
    model, _, _ = case
    assert model.contract.kv_dtype == "FLOAT"
    validate(model)


def test_caches_take_a_quarter_of_the_bytes(case):
    model, rounded, _ = case
    assert rounded.contract.kv_bytes * 4 == model.contract.kv_bytes
    held = [p for p in rounded.contract.inputs("decode") if p.name.startswith("past_")]
    assert sum(int(np.prod(p.shape)) for p in held) == rounded.contract.kv_bytes
    assert {p.dtype for p in held} == {"INT8"}


def test_scales_are_those_of_every_row_that_is_read(case):
    """Collected by a loop of our own: prompts without their padding, and all steps of decode."""
    model, rounded, probes = case
    top = {name: np.zeros(model.contract.kv_heads) for name in caches(model.contract)}
    padded = {name: np.zeros(model.contract.kv_heads) for name in caches(model.contract)}
    for probe in probes:
        text = len(probe.before) + len(probe.after)

        def cached(role, name, rows, feeds, text=text):
            layer = int(name.rpartition("_")[2])
            read = model.contract.tokens_at(layer) + text if role == "prefill" else 1
            for tops, seen in ((top, rows[:, :, :read]), (padded, rows)):
                tops[name] = np.maximum(tops[name], np.abs(seen).max((0, 2, 3)))
            return rows

        spy = Spy(model, cached)
        image = encode_image(model.contract, spy, probe.pixel_values)
        ends = model.processor.eos_ids
        tuple(generate(model.contract, spy, image, probe.before, probe.after, ends, max_new=16))
    for name, tops in top.items():
        np.testing.assert_allclose(
            scale_of(rounded.parts["prefill"], name), tops / 127, rtol=1e-6, err_msg=name
        )
    if model.contract.family != "micro":  # there the padding is larger, so that leaving it in shows
        assert any((padded[n] > top[n]).any() for n in top)


@pytest.mark.parametrize("limit", [5])
def test_the_loop_says_what_a_float_loop_with_a_cache_rounded_by_numpy_says(case, limit):
    """Only the caches of the other loop know of int8; its graphs are the float ones."""
    model, rounded, probes = case
    scales = {n: scale_of(rounded.parts["prefill"], n) for n in caches(model.contract)}

    def cached(role, name, rows, feeds):
        scale = scales[name][:, None, None]
        return (np.clip(np.rint(rows / scale), -128, 127) * scale).astype(np.float32)

    changed = 0
    for probe in probes:
        said, logits = say(rounded, ReferenceParts(rounded.parts), probe, limit)
        wanted, other = say(model, Spy(model, cached), probe, limit)
        _, exact = say(model, ReferenceParts(model.parts), probe, limit)
        assert said == wanted and len(said) == limit
        for a, b in zip(logits, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.abs(b).max())
        np.testing.assert_array_equal(logits[0], exact[0])  # prefill attends to floats
        changed += not np.allclose(logits[1], exact[1], rtol=1e-6, atol=0)
    assert changed  # rounding is there


def test_codes_are_rows_over_their_scale_rounded_to_nearest(case):
    model, rounded, probes = case
    scales = {n: scale_of(rounded.parts["prefill"], n) for n in caches(model.contract)}
    feeds = observe(model, probes[:1]).feeds[0]["prefill"]
    rows = ReferenceParts(model.parts).call("prefill", feeds)
    codes = ReferenceParts(rounded.parts).call("prefill", feeds)
    for name, scale in scales.items():
        assert codes[name].dtype == np.int8
        steps = rows[name] / scale[:, None, None]
        off = np.abs(np.clip(steps, -128, 127) - codes[name])
        assert off.max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(codes["logits"], rows["logits"])


def test_the_axis_analysis_knows_the_new_nodes(case):
    _, rounded, _ = case
    decode = analyse(rounded.parts["decode"].graph, rounded.contract.signature("decode"))
    many = rounded.contract.kv_heads > 1
    for name in caches(rounded.contract):
        node = linear(rounded.parts["decode"], f"past_{name}")
        names = decode.names(node.outputs[0])
        assert names[2] == "kv" and (names[1] == "head" or not many)
    analyse(rounded.parts["prefill"].graph, rounded.contract.signature("prefill"))


def test_it_is_checked_as_numbers_and_answers_as_before(tiny_model, tiny_probes):
    _, record, seen = run_passes(tiny_model, [QuantizeKv()], tiny_probes)
    check = record[0].check
    assert set(check.drift) == {"prefill", "decode"} and check.agree == len(tiny_probes) == 12
    assert all(25 < d.sqnr_db < 45 for d in check.drift.values())
    assert all(d.where.startswith(("key_", "value_")) for d in check.drift.values())
    assert seen.feeds[0]["decode"]["past_key_0"].dtype == np.int8
    assert "8 caches of 2 heads, ranges of 12 prompts" in record[0].notes[0].why


def test_behind_everything_that_rounds(tiny_model, tiny_probes):
    steps = [QuantizeWeights(), QuantizeActivations(), QuantizeKv(range="mse")]
    model, record, _ = run_passes(tiny_model, steps, tiny_probes)
    assert record[-1].check.agree == len(tiny_probes)
    check_symmetric(model)
    again, record, _ = run_passes(model, [QuantizeKv()], tiny_probes)
    assert not record[0].changed and again is model


def test_a_cache_too_coarse_stops_the_compile_and_names_the_node(tiny_model, tiny_probes):
    with pytest.raises(JobFault, match="EV206") as caught:
        run_passes(tiny_model, [QuantizeKv()], tiny_probes, min_sqnr=70.0)
    assert "pass quantize-kv changed part" in caught.value.what
    assert "under 70 dB" in caught.value.why


def test_tokens_may_leave_a_model_with_int8_caches(make_micro, micro_probes):
    """What `--payoff full` does at other sizes: the same codes' scales, shorter caches."""
    model = quantised(make_micro(layers=3), micro_probes)
    pruned = KeepTokens(keep=4, at="llm:1", method="dart")(model).model
    validate(pruned)
    rows = dict.fromkeys(caches(pruned.contract))
    for port in pruned.contract.inputs("decode"):
        if port.name.startswith("past_"):
            rows[port.name.removeprefix("past_")] = port.shape[2]
    assert rows["key_0"] == rows["key_1"] + 5 == rows["key_2"] + 5
    assert pruned.contract.kv_dtype == "INT8"
    assert len(observe(pruned, micro_probes).answers) == len(micro_probes)
