"""cast-half on whole models: the same answers, float16 wherever nothing speaks against it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.mixed_types import check_types
from edgevlm.compiler.pass_manager import apply_unchecked, run_passes
from edgevlm.compiler.reference import observe
from edgevlm.passes.precision.cast_half import ROUNDED_FLOOR_DB, CastHalf
from edgevlm.passes.precision.stays import Why, stay_float
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

FLOAT, HALF, INT8 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8


@pytest.fixture(scope="module", params=["micro", "tiny"])
def case(request, tiny_model, tiny_probes, make_micro, micro_probes):
    """A model, the same in float16 as the manager proved it, the record, and what it did."""
    model, probes = tiny_model, tiny_probes
    if request.param == "micro":
        model, probes = make_micro(layers=2, heads=4, kv_heads=2, width=16), micro_probes
    after, (record,), seen = run_passes(model, [CastHalf()], probes)
    return model, after, record, seen, probes


def floats(part):
    return [v for n in part.graph for v in n.outputs if v.dtype in (FLOAT, HALF)]


def codes(part):
    return {
        v.const_value.tobytes() for v in part.graph.initializers.values() if v.dtype.bitwidth <= 8
    }


def test_every_part_is_near_and_every_answer_the_same(case):
    model, _, record, seen, probes = case
    assert set(record.check.drift) == set(model.parts)
    for role, drift in record.check.drift.items():
        assert drift.sqnr_db > 45, role
    assert record.check.agree == record.check.probes == len(probes)
    assert seen.answers == observe(model, probes).answers
    noisy = [r for r, d in record.check.drift.items() if d.sqnr_db < 120]
    assert {"vision", "prefill", "decode"} <= set(noisy), (
        "float16 rounds; without a trace it is not"
    )


def test_every_float_is_half_but_those_with_a_reason_and_the_ports(case):
    model, after, _, _, _ = case
    for role, part in after.parts.items():
        stays = {str(node.name) for node in stay_float(model.parts[role].clone())}
        ports = set(part.graph.outputs)
        odd = [
            v
            for v in floats(part)
            if v.dtype == FLOAT and v not in ports and str(v.producer().name) not in stays
        ]
        assert not odd, f"{role}: {[v.producer().name for v in odd]}"
        products = [n for n in part.graph if n.op_type in ("MatMul", "Conv", "Attention")]
        assert all(v.dtype == HALF for n in products for v in n.outputs)
        assert products or role == "embed"
        for port in (*part.graph.inputs, *part.graph.outputs):
            cache = str(port.name).removeprefix("past_").startswith(("key_", "value_"))
            assert port.dtype != (FLOAT if cache else HALF), port


def test_weights_and_caches_take_half_the_bytes(case):
    model, after = case[:2]
    for role, part in after.parts.items():
        sizes = [
            sum(v.const_value.nbytes for v in p.graph.initializers.values() if v.dtype in kinds)
            for p, kinds in ((model.parts[role], (FLOAT,)), (part, (FLOAT, HALF)))
        ]
        assert sizes[1] < 0.51 * sizes[0]
    assert (model.contract.kv_dtype, after.contract.kv_dtype) == ("FLOAT", "FLOAT16")


def test_what_stays_is_told_for_each_part_with_the_first_names(case):
    _, after, record, _, _ = case
    angles = [n for n in record.notes if n.why == f"float32: {Why.ANGLE.value}"]
    assert [n.where.partition(":")[0] for n in angles] == ["prefill", "decode"]
    for note in angles:
        names, _, more = note.where.partition(": ")[2].partition(" and ")
        assert len(names.split(", ")) == 3 and more.endswith(" more")
    matched = {n.where: int(n.why.split()[0]) for n in record.notes if n.kind == "matched"}
    assert matched == {
        role: sum(any(v.dtype == HALF for v in n.outputs) for n in part.graph)
        for role, part in after.parts.items()
    }


def test_the_same_again_gives_the_same_bytes(case):
    model, after, _, _, probes = case
    again = apply_unchecked(model, [CastHalf()], probes)
    for role, part in after.parts.items():
        assert ir.to_proto(part).SerializeToString(deterministic=True) == ir.to_proto(
            again.parts[role]
        ).SerializeToString(deterministic=True)


def test_a_second_run_changes_nothing(case):
    _, after, _, _, probes = case
    again, (record,), _ = run_passes(after, [CastHalf()], probes)
    assert not record.changed
    assert all(again.parts[role] is part for role, part in after.parts.items())


def test_prefill_and_decode_store_the_same_weights(case):
    after = case[1]
    kept = [
        {
            v.const_value.tobytes()
            for v in after.parts[role].graph.initializers.values()
            if v.dtype == HALF and v.const_value.size > 8
        }
        for role in ("prefill", "decode")
    ]
    assert kept[0] == kept[1] and len(kept[0]) > 5


def test_caches_stay_float_where_that_is_asked(micro_model, micro_probes):
    after, (record,), _ = run_passes(micro_model, [CastHalf(cache=False)], micro_probes)
    assert after.contract == micro_model.contract
    assert all(v.dtype != HALF for p in after.parts.values() for v in p.graph.inputs)
    (key,) = [v for v in after.parts["prefill"].graph.outputs if v.name == "key_0"]
    made = key.producer()
    assert made.op_type == "Cast" and made.inputs[0].dtype == HALF
    assert len(made.inputs[0].uses()) == 2, "attention reads the key in float16, not the port"
    assert all(d.sqnr_db > 45 for d in record.check.drift.values())


def test_int8_caches_stay_int8(micro_model, micro_probes):
    model = apply_unchecked(micro_model, [QuantizeKv()], micro_probes)
    after, (record,), _ = run_passes(model, [CastHalf()], micro_probes)
    assert after.contract == model.contract and record.changed
    for name in ("past_key_0", "past_value_0"):
        (port,) = [v for v in after.parts["decode"].graph.inputs if v.name == name]
        ((reader, _),) = port.uses()
        assert port.dtype == INT8 and reader.inputs[1].dtype == reader.outputs[0].dtype == HALF


def test_caches_that_do_not_fit_float16_stay_float(make_micro, micro_probes):
    model = make_micro()
    for role in ("prefill", "decode"):
        part = model.parts[role]
        value = part.graph.initializers["wv_0"]
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(5e3), name="wv_0")
    after, (record,), _ = run_passes(model, [CastHalf()], micro_probes)
    assert after.contract.kv_dtype == "FLOAT"
    (note,) = [n for n in record.notes if "KV caches stay float32" in n.why]
    assert note.where in ("prefill: value_0", "decode: past_value_0", "decode: value_0")
    assert Why.LARGE.value in note.why


@pytest.mark.parametrize(
    "steps",
    [
        (QuantizeWeights(min_elements=1), QuantizeActivations(form="tensorrt")),
        (QuantizeWeights(min_elements=1, bits=4, block=8),),
        (
            QuantizeWeights(min_elements=1, number="e4m3"),
            QuantizeActivations(form="tensorrt", number="e4m3"),
        ),
    ],
    ids=["w8a8", "w4a16", "fp8"],
)
def test_scales_become_float16_and_codes_stay(make_micro, micro_probes, steps):
    model = make_micro(heads=4, kv_heads=2, width=16)
    model = apply_unchecked(model, steps, micro_probes)
    cast = CastHalf()
    after, (record,), _ = run_passes(model, [cast], micro_probes)
    assert record.changed and all(d.sqnr_db > 15 for d in record.check.drift.values())
    assert cast.floor_db == (ROUNDED_FLOOR_DB if len(steps) == 2 else CastHalf.floor_db)
    linear = 0
    for role, part in after.parts.items():
        assert codes(part) == codes(model.parts[role])
        for node in part.graph:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                linear += 1
                assert node.inputs[1].dtype == HALF
                number = (node.inputs if node.op_type == "QuantizeLinear" else node.outputs)[0]
                assert number.dtype == HALF
    assert linear > 8


def test_a_mixed_graph_is_a_bug_of_ours(micro_model, micro_probes, monkeypatch):
    step = CastHalf()
    step.calibration = observe(micro_model, micro_probes)
    after = step(micro_model).model
    part = after.parts["connector"].clone()
    node = next(n for n in part.graph if n.op_type == "Add")
    node.inputs[1].type = ir.TensorType(FLOAT)
    with pytest.raises(JobFault, match=r"EV501 connector/shift has inputs of two types"):
        step.ensures(micro_model, after.with_parts(connector=part))
    check_types("connector", after.parts["connector"])
