"""keep-tokens as a pass: budgets, shapes of every part, contract, notes, refusals, twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import EdgeError, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_base import Effect
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import observe
from edgevlm.compiler.validate import validate
from edgevlm.passes.cleanup.drop_zero_masks import DropZeroMasks
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS as REGISTRY

#: of features alone, so that they work in the plainest model; all others: test_kit_*.py
METHODS = pytest.mark.parametrize("method", ["dart", "stride", "random", "divprune"])


def shape(model, role, port):
    graph = model.parts[role].graph
    return list(next(v.shape for v in (*graph.inputs, *graph.outputs) if v.name == port))


@METHODS
@pytest.mark.parametrize("keep", [1, 4, 8])
def test_every_part_is_reshaped_and_runs(micro_model, micro_probes, method, keep):
    result = KeepTokens(keep=keep, method=method)(micro_model)
    model, c = result.model, result.model.contract
    assert result.changed and KeepTokens.effect is Effect.STRUCTURAL
    assert (c.kept_image_tokens, c.image_tokens, c.kv_capacity) == (keep, 9, 20 - (9 - keep))
    assert c.prefill_length == keep + 6 and c.prompt_capacity == 6
    assert shape(model, "connector", "image_embeds") == [1, keep, 8]
    assert shape(model, "connector", "image_index") == [keep]
    assert shape(model, "prefill", "inputs_embeds") == [1, keep + 6, 8]
    assert shape(model, "prefill", "position_ids") == [1, keep + 6]
    assert shape(model, "prefill", "key_0") == [1, 1, keep + 6, 4]
    assert shape(model, "decode", "past_value_0") == [1, 1, c.kv_capacity, 4]
    assert shape(model, "decode", "attention_mask") == [1, 1, 1, c.kv_capacity + 1]
    assert model.parts["vision"] is micro_model.parts["vision"]
    assert model.parts["embed"] is micro_model.parts["embed"]
    validate(model)
    seen = observe(model, micro_probes)
    assert all(np.isfinite(x).all() for x in seen.logits)


@pytest.mark.parametrize(
    ("method", "keep"), [("dart", 1), ("divprune", 16), ("random", 16), ("stride", 63)]
)
def test_the_bundled_model_at_other_budgets(tiny_model, tiny_probes, method, keep):
    model, record, _ = run_passes(
        tiny_model, [KeepTokens(keep=keep, method=method)], tiny_probes[:3]
    )
    validate(model)
    check = record[0].check
    assert check.probes == 3 and check.drift == {} and np.isfinite(check.logits.cosine)
    assert model.contract.kv_capacity == 104 - (64 - keep)


@METHODS
def test_what_leaves_the_connector_is_what_went_in_at_the_kept_places(
    tiny_model, tiny_probes, method
):
    pruned = ReferenceParts(KeepTokens(keep=16, method=method)(tiny_model).model.parts)
    whole = ReferenceParts(tiny_model.parts)
    for probe in tiny_probes:
        features = whole.call("vision", {"pixel_values": probe.pixel_values})
        out = pruned.call("connector", features)
        everything = whole.call("connector", features)["image_embeds"]
        assert np.array_equal(out["image_embeds"], everything[:, out["image_index"]])
        assert out["image_index"].dtype == np.int64


def test_prefill_and_cache_cost_less_by_what_was_dropped(tiny_model):
    model = KeepTokens(keep=16)(tiny_model).model
    before, after = (count(m.parts["prefill"]).macs for m in (tiny_model, model))
    assert 0.4 < after / before < (16 + 32) / (64 + 32)  # attention falls faster than the rest
    before, after = (count(m.parts["prefill"]).weight_bytes for m in (tiny_model, model))
    assert abs(after - before) < 100  # a shape of its own here and there, and no weight


@METHODS
def test_t3_keeping_all_is_nothing_changed(micro_model, micro_probes, method):
    result = KeepTokens(keep=9, method=method)(micro_model)
    assert not result.changed and result.model is micro_model
    assert result.notes[0].kind == "skipped" and "9 of 9" in result.notes[0].why


@METHODS
def test_twice_with_one_budget_is_once_and_with_another_is_refused(micro_model, method):
    once = KeepTokens(keep=4, method=method)(micro_model).model
    again = KeepTokens(keep=4, method=method)(once)
    assert not again.changed and again.model is once
    for keep in (1, 3, 5, 9):
        with pytest.raises(UsageFault) as caught:
            KeepTokens(keep=keep)(once)
        assert caught.value.code == "EV203" and "pruned to 4" in caught.value.what


@pytest.mark.parametrize("keep", [0, -1, -64, 10, 10**9])
def test_a_budget_out_of_range_is_refused_with_the_range(micro_model, keep):
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=keep)(micro_model)
    assert caught.value.code == "EV203" and caught.value.exit_status == 2
    assert str(keep) in caught.value.what and "1 to 9" in caught.value.why


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "EV202"),
        ({"keep": 1.5}, "EV202"),
        ({"keep": "4"}, "EV202"),
        ({"keep": 4, "position": "shuffled"}, "EV202"),
        ({"keep": 4, "form": "abacus"}, "EV202"),
        ({"keep": 4, "method": "dart", "options": {"pivot": 3}}, "EV202"),
        ({"keep": 4, "method": "dart", "options": {"pivots": 0}}, "EV202"),
        ({"keep": 4, "method": "dart", "options": {"pivots": "many"}}, "EV202"),
        ({"keep": 4, "method": "dort"}, "EV201"),
        ({"keep": 4, "at": "llm"}, "EV209"),
    ],
    ids=str,
)
def test_options_that_are_no_options(options, code):
    with pytest.raises(UsageFault) as caught:
        KeepTokens(**options)
    assert caught.value.code == code and caught.value.exit_status == 2


def test_a_method_that_does_not_exist_is_told_the_nearest():
    with pytest.raises(UsageFault) as caught:
        KeepTokens(keep=4, method="dort")
    assert "dart" in caught.value.why and "dart" in REGISTRY


def test_a_classifier_has_no_connector(micro_model):
    contract = micro_model.contract.model_copy(update={"kind": "classifier"})
    for at in ("connector-out", "vision-out", "llm:0"):
        with pytest.raises(UsageFault, match=r"EV209.*classifier"):
            KeepTokens(keep=4, at=at)(replace(micro_model, contract=contract))


def test_an_unknown_op_on_the_way_is_refused_and_named(micro_model):
    part = micro_model.parts["prefill"].clone()
    node = next(n for n in part.graph if n.op_type == "Sigmoid")
    node.op_type, node.name = "MeanVarianceNormalization", "odd"
    with pytest.raises(EdgeError, match=r"EV210.*odd"):
        KeepTokens(keep=4)(micro_model.with_parts(prefill=part))


def test_a_stored_mask_on_the_way_is_refused_and_named_and_goes_with_the_clean_up(make_micro):
    """Which of its rows and columns stay is known only when it runs: dropping it is for another."""
    model = make_micro(mask="zeros")
    with pytest.raises(EdgeError) as caught:
        KeepTokens(keep=4)(model)
    assert caught.value.code == "EV211" and "idle_0" in str(caught.value)
    assert KeepTokens(keep=4)(DropZeroMasks()(model).model).changed


def test_notes_tell_what_matched_in_each_part(micro_model):
    notes = KeepTokens(keep=4)(micro_model).notes
    assert [(n.kind, n.where) for n in notes] == [
        ("matched", "connector"), ("matched", "prefill"), ("matched", "decode"),
    ]  # fmt: skip
    assert "4 of 9 by dart" in notes[0].why
    assert "4 constants" in notes[1].why  # the reshapes of q, k, v and the output


@METHODS
def test_the_choice_is_of_the_image_and_not_of_the_question(tiny_model, tiny_probes, method):
    """So that an image is looked at once and asked many questions."""
    model = KeepTokens(keep=16, method=method)(tiny_model).model
    assert [v.name for v in model.parts["connector"].graph.inputs] == ["image_features"]
