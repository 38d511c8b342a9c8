"""A pass that does not keep its word is caught, and the node where it broke it is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.pass_base import Effect, Pass, PassResult
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import observe


def pass_of(edit, role="prefill", effect=Effect.EXACT, contract=None):
    """A pass that does one thing to a clone of one part."""

    def run(self, model):
        part = model.parts[role].clone()
        edit(part)
        return PassResult(model.with_parts(contract, **{role: part}), True)

    members = {"name": "wrong", "summary": "wrong", "effect": effect, "run": run}
    return type("Wrong", (Pass,), members)()


def node(part, name):
    return next(n for n in part.graph for v in n.outputs if v.name == name)


def scaled(part, name, factor):
    """Another weight under the same name, as a careless rewrite would leave it."""
    value = part.graph.initializers[name]
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=name)


def fault(model, probes, *passes, **options):
    with pytest.raises(JobFault) as caught:
        run_passes(model, passes, probes, **options)
    return caught.value


@pytest.fixture(scope="module")
def deep(make_micro):
    return make_micro(layers=3)


def test_a_wrong_exact_pass_is_ev206_and_the_first_stray_node_is_named(deep, micro_probes):
    def edit(part):
        node(part, "g_1").op_type = "Tanh"

    error = fault(deep, micro_probes, pass_of(edit))
    assert error.code == "EV206" and "prefill" in error.what and "wrong" in error.what
    assert "under 80 dB" in error.why
    assert f"{node(deep.parts['prefill'], 'g_1').name} (Tanh)" in error.why


@pytest.mark.parametrize(
    ("name", "first"), [("wv_2", "v_2"), ("down_0", "d_0"), ("head", "scores"), ("wk_1", "k_1")]
)
@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_wrong_weight_is_named_by_the_node_that_reads_it(deep, micro_probes, role, name, first):
    error = fault(deep, micro_probes, pass_of(lambda part: scaled(part, name, 1.01), role))
    named = node(deep.parts[role], first)
    assert error.code == "EV206" and role in error.what
    assert f"{named.name} (MatMul)" in error.why


def test_the_worst_output_is_named(deep, micro_probes):
    error = fault(deep, micro_probes, pass_of(lambda part: scaled(part, "wv_2", 100.0)))
    assert "value_2" in error.what


def test_a_node_that_strays_on_the_last_probe_only_is_named_too(micro_model, micro_probes):
    """The connector is changed where its input is very bright; two of three pictures are not."""
    bright = replace(micro_probes[0], pixel_values=micro_probes[0].pixel_values * 40)
    limit = 60.0
    probes = [*micro_probes, bright]
    features = [f["connector"]["image_features"] for f in observe(micro_model, probes).feeds]
    projector = micro_model.parts["connector"].graph.initializers["projector"].const_value.numpy()
    tops = [float((f @ projector).max()) for f in features]
    assert max(tops[:-1]) < limit < tops[-1]

    def edit(part):
        high = ir.val("high", const_value=ir.tensor(np.float32(limit), name="high"))
        part.graph.register_initializer(high)
        shift = node(part, "b")
        clip = ir.node("Clip", [shift.inputs[0], None, high])
        clip.outputs[0].name, clip.outputs[0].dtype = "clipped", ir.DataType.FLOAT
        clip.outputs[0].shape = shift.inputs[0].shape
        part.graph.insert_before(shift, clip)
        shift.replace_input_with(0, clip.outputs[0])

    error = fault(micro_model, probes, pass_of(edit, "connector"))
    assert error.code == "EV206"
    assert f"{node(micro_model.parts['connector'], 'b').name} (Gelu)" in error.why


def test_a_stray_without_a_common_name_is_still_an_error(micro_model, micro_probes):
    def edit(part):
        scaled(part, "projector", 2)
        for n in part.graph:
            for value in n.outputs:
                if not value.is_graph_output():
                    value.name = f"new_{value.name}"

    error = fault(micro_model, micro_probes, pass_of(edit, "connector"))
    assert error.code == "EV206" and "shift (Add)" in error.why  # the output is common at least


def test_an_exact_pass_that_changes_answers_under_the_floor_is_ev207(micro_model, micro_probes):
    """Two logits that are equal but for rounding: 120 dB is exact, and the answer is another."""
    parts = micro_model.parts
    tied = parts["prefill"].clone()
    head = tied.graph.initializers["head"]
    array = head.const_value.numpy().copy()
    seen = observe(micro_model, micro_probes)
    best = int(seen.logits[0].argmax())
    other = (best + 1) % array.shape[1]
    array[:, other] = array[:, best] * np.float32(1 + 1e-6)
    head.const_value = ir.tensor(array, name="head")
    model = micro_model.with_parts(prefill=tied)

    def edit(part):
        turned = array.copy()
        turned[:, [best, other]] = array[:, [other, best]]
        part.graph.initializers["head"].const_value = ir.tensor(turned, name="head")

    error = fault(model, micro_probes, pass_of(edit))
    assert error.code == "EV207" and "of 3 answers" in error.what


def test_an_approximate_pass_may_stray_down_to_its_floor(micro_model, micro_probes):
    coarse = pass_of(lambda part: scaled(part, "head", 1.1), effect=Effect.APPROXIMATE)  # 20 dB
    _, record, _ = run_passes(micro_model, [coarse], micro_probes)
    drift = record[0].check.drift
    assert set(drift) == {"prefill"} and drift["prefill"].where == "logits"
    assert drift["prefill"].sqnr_db == pytest.approx(20, abs=0.01)
    _, record, _ = run_passes(micro_model, [coarse], micro_probes, min_sqnr=19.9)
    error = fault(micro_model, micro_probes, coarse, min_sqnr=20.1)
    assert error.code == "EV206" and "under 20 dB" in error.why and "(MatMul)" in error.why


def test_a_structural_pass_is_recorded_and_not_judged_by_drift(micro_model, micro_probes):
    loud = pass_of(lambda part: scaled(part, "head", -1.0), effect=Effect.STRUCTURAL)
    _, record, seen = run_passes(micro_model, [loud], micro_probes)
    check = record[0].check
    assert check.drift == {} and check.probes == 3 and check.agree < 3
    assert check.logits.sqnr_db == pytest.approx(-10 * np.log10(4), abs=1e-3)
    assert check.as_json()["logits"]["tensor"] == "logits"
    assert [int(x.argmax()) for x in seen.logits] == [
        int(x.argmin()) for x in observe(micro_model, micro_probes).logits
    ]


@pytest.mark.parametrize("effect", list(Effect))
def test_a_model_that_says_nothing_finite_any_more_is_stopped_whatever_the_effect(
    micro_model, micro_probes, effect
):
    broken = pass_of(lambda part: scaled(part, "head", np.nan), effect=effect)
    assert fault(micro_model, micro_probes, broken, min_sqnr=-1e9).code == "EV206"


@pytest.mark.parametrize("effect", [Effect.EXACT, Effect.APPROXIMATE])
def test_only_a_structural_pass_may_change_the_contract(micro_model, micro_probes, effect):
    other = micro_model.contract.model_copy(update={"family": "other"})
    error = fault(micro_model, micro_probes, pass_of(lambda part: None, "embed", effect, other))
    assert error.code == "EV501" and "contract" in error.what


def test_a_pass_that_breaks_the_ports_is_stopped_before_it_runs(micro_model, micro_probes):
    error = fault(micro_model, micro_probes, pass_of(lambda part: part.graph.outputs.pop()))
    assert error.code == "EV106"


def test_a_pass_that_leaves_no_valid_graph_is_ev204(micro_model, micro_probes):
    def edit(part):
        node(part, "g_0").op_type = "NoSuchOp"

    assert fault(micro_model, micro_probes, pass_of(edit)).code == "EV204"


def test_decode_is_checked_even_where_every_answer_is_empty(micro_model, micro_probes):
    every = micro_model.processor.model_copy(update={"eos_ids": tuple(range(16))})
    silent = replace(micro_model, processor=every)
    assert observe(silent, micro_probes).answers == [()] * 3
    error = fault(silent, micro_probes, pass_of(lambda part: scaled(part, "wv_0", 2), "decode"))
    assert error.code == "EV206" and "decode" in error.what


@pytest.mark.parametrize("role", ["vision", "connector", "embed", "prefill", "decode"])
def test_every_part_is_checked(micro_model, micro_probes, role):
    weight = {"vision": "patch", "connector": "bias", "embed": "table"}.get(role, "wo_0")
    error = fault(micro_model, micro_probes, pass_of(lambda part: scaled(part, weight, 1.01), role))
    assert error.code == "EV206" and role in error.what
