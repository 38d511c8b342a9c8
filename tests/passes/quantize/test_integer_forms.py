"""Which values a target wants as integers: attention, convolutions, the residual stream."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.quantised import is_rounded
from edgevlm.compiler.reference import Reference
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.quantize.forms import INTEGER_FORMS
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.sites import ROWS

RNG = np.random.default_rng(0)
ATTENTION = """(float[1,2,5,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,5,8] y) {
    [a] y = Attention(q, k, v) }"""


def quantised(model, feeds, form):
    step = QuantizeActivations(form=form)
    step.calibration = Reference([{"vision": f} for f in feeds], [], [])
    return step(model)


def feeds(n=3):
    return [{x: RNG.normal(size=(1, 2, 5, 8)).astype(np.float32) for x in "qkv"} for _ in range(n)]


def test_both_products_of_attention_are_those_of_integers(graph, solo, ort):
    seen = feeds()
    part = quantised(solo(graph(ATTENTION)), seen, "tensorrt").model.parts["vision"]
    assert Counter(n.op_type for n in part.graph)["QuantizeLinear"] == 4
    step = {x: max(np.abs(f[x]).max() for f in seen) / 127 for x in "kv"}
    step["q"] = max(np.abs(f["q"] * np.float32(8**-0.5)).max() for f in seen) / 127
    probabilities = []
    for feed in seen:
        score = np.einsum("bhqd,bhkd->bhqk", feed["q"], feed["k"]) * 8**-0.5
        p = np.exp(score - score.max(-1, keepdims=True))
        probabilities.append(p / p.sum(-1, keepdims=True))
    top = max(p.max() for p in probabilities) / 127
    q, k, v = seen[0]["q"] * np.float32(8**-0.5), seen[0]["k"], seen[0]["v"]
    q, k, v = (np.clip(np.rint(a / step[n]), -128, 127) for a, n in ((q, "q"), (k, "k"), (v, "v")))
    score = np.einsum("bhqd,bhkd->bhqk", q, k) * step["q"] * step["k"]
    p = np.exp(score - score.max(-1, keepdims=True))
    p = np.clip(np.rint(p / p.sum(-1, keepdims=True) / top), -128, 127)
    wanted = np.einsum("bhqk,bhkd->bhqd", p, v) * top * step["v"]
    found = ort(part, **seen[0])["y"]
    assert np.abs(found - wanted).max() <= 1.01 * top * step["v"] * 127  # one code may tip over
    assert np.abs(found - wanted).mean() < 1e-3


def wide(rows):
    return ATTENTION.replace("float[1,2,5,8] q", f"float[1,2,{rows},8] q").replace(
        "float[1,2,5,8] y", f"float[1,2,{rows},8] y"
    )


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, 300])
def test_scores_alone_are_integers_where_queries_are_many(graph, solo, ort, rows):
    seen = [f | {"q": RNG.normal(size=(1, 2, rows, 8)).astype(np.float32)} for f in feeds()]
    model = solo(graph(wide(rows)))
    made = quantised(model, seen, "openvino")
    assert made.changed == (rows >= ROWS)
    part = made.model.parts["vision"]
    rounded = [is_rounded(v) for n in part.graph if n.op_type == "MatMul" for v in n.inputs]
    assert rounded == ([True, True, False, False] if made.changed else [])
    float_one = ort(model.parts["vision"], **seen[0])["y"]
    noise = ort(part, **seen[0])["y"] - float_one
    assert (noise**2).sum() <= 1e-3 * (float_one**2).sum()


def test_long_causal_attention_is_rounded_block_by_block(graph, solo):
    text = wide(600).replace("1,2,5,8", "1,2,600,8").replace("(q, k, v)", "<is_causal=1>(q, k, v)")
    seen = [{x: RNG.normal(size=(1, 2, 600, 8)).astype(np.float32) for x in "qkv"}]
    part = quantised(solo(graph(text)), seen, "openvino").model.parts["vision"]
    ops = Counter(n.op_type for n in part.graph)
    assert ops["Softmax"] == 3 and ops["QuantizeLinear"] == 6, "queries and keys of three blocks"


def test_on_the_host_attention_stays_float(graph, solo):
    model = solo(graph(ATTENTION))
    assert not quantised(model, feeds(), "ort").changed


@pytest.mark.parametrize(
    ("op", "shape", "side"), [("Conv", (8, 4, 3, 3), 7), ("ConvTranspose", (4, 8, 3, 3), 11)]
)
def test_convolutions_where_a_target_runs_them(graph, solo, ort, op, shape, side):
    text = f"(float[1,4,9,9] x) => (float[1,8,{side},{side}] y) {{ y = {op}(x, w) }}"
    plain = solo(graph(text, w=RNG.normal(size=shape).astype(np.float32)))
    model = QuantizeWeights(min_elements=1)(plain).model
    scale = next(n for n in model.parts["vision"].graph if n.op_type == "DequantizeLinear")
    assert scale.inputs[1].shape == (8,), "one an output channel"
    seen = [{"x": RNG.normal(size=(1, 4, 9, 9)).astype(np.float32)}]
    assert not quantised(model, seen, "ort").changed
    part = quantised(model, seen, "openvino").model.parts["vision"]
    assert is_rounded(next(n for n in part.graph if n.op_type == op).inputs[0])
    wanted = ort(plain.parts["vision"], **seen[0])["y"]
    assert ((ort(part, **seen[0])["y"] - wanted) ** 2).sum() < 2e-4 * (wanted**2).sum()


def test_a_transposed_convolution_in_groups_is_left_and_said_so(graph, solo):
    text = "(float[1,4,9,9] x) => (float[1,8,11,11] y) { y = ConvTranspose<group=2>(x, w) }"
    made = QuantizeWeights(min_elements=1)(
        solo(graph(text, w=RNG.normal(size=(4, 4, 3, 3)).astype(np.float32)))
    )
    assert not made.changed and "several groups" in made.notes[0].why


@pytest.mark.parametrize("form", ["tensorrt", "fpga"])
def test_a_whole_model_keeps_its_answers(tiny_model, tiny_probes, form):
    weights, activations = QuantizeWeights(), QuantizeActivations(form=form)
    model, record, seen = run_passes(tiny_model, [weights, activations], tiny_probes)
    before = run_passes(tiny_model, [], tiny_probes)[2]
    assert sum(a == b for a, b in zip(seen.answers, before.answers, strict=True)) >= 11
    for role in ("vision", "prefill"):
        ops = Counter(n.op_type for n in model.parts[role].graph)
        assert not ops["Attention"], "written out"
        kinds = Counter(
            n.outputs[0].dtype for n in model.parts[role].graph if n.op_type == "QuantizeLinear"
        )
        assert bool(kinds[ir.DataType.INT16]) == (form == "fpga")
        products = [n for n in model.parts[role].graph if n.op_type == "MatMul"]
        assert all(is_rounded(n.inputs[0]) for n in products)
    assert "inputs of attention as int8" in record[1].notes[-1].why


def test_the_residual_stream_is_read_in_sixteen_bits_by_all(micro_model, micro_probes):
    step = QuantizeActivations(form="fpga")
    model, record, _ = run_passes(
        micro_model, [QuantizeWeights(min_elements=1), step], micro_probes
    )
    part = model.parts["prefill"]
    streams = [
        n.inputs[0]
        for n in part.graph
        if n.op_type == "QuantizeLinear" and n.outputs[0].dtype == ir.DataType.INT16
    ]
    assert len(streams) == 2, "behind attention and behind the MLP"
    for value in streams:
        assert {user.op_type for user, _ in value.uses()} == {"QuantizeLinear"}
    assert all(record[1].check.drift[role].sqnr_db > 15 for role in record[1].check.drift)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_a_recipe_says_what_the_target_runs(micro_model, runtime):
    recipe = compose("cpu", runtime, Flags(quant="w8a8"), micro_model)
    made = next(p for p in make_passes(recipe) if p.name == "quantize-activations")
    assert made.options.form == runtime and runtime in INTEGER_FORMS


def test_a_form_that_is_none(tiny_model):
    with pytest.raises(UsageFault) as caught:
        quantised(tiny_model, [], "abacus")
    assert caught.value.code == "EV202" and "fpga" in caught.value.why
