"""Sizes that follow from each other, the ports of every role, and numbers that contradict."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.compiler.contract import CLASSIFIER_ROLES, VLM_ROLES, Contract

SIZES = {
    "family": "f", "image_height": 24, "image_width": 32, "grid": (3, 4), "vision_tokens": 13,
    "vision_width": 20, "image_tokens": 12, "kept_image_tokens": 5, "prompt_capacity": 7,
    "kv_capacity": 17, "width": 6, "layers": 2, "kv_heads": 3, "head_dim": 4, "vocabulary": 11,
}  # fmt: skip


def shapes(ports):
    return {p.name: (p.dtype, p.shape) for p in ports}


def test_prefill_length_is_kept_image_tokens_and_prompt():
    assert Contract(**SIZES).prefill_length == 5 + 7


@pytest.mark.parametrize(
    ("role", "inputs", "outputs"),
    [
        ("vision", {"pixel_values": ("FLOAT", (1, 3, 24, 32))},
         {"image_features": ("FLOAT", (1, 13, 20))}),
        ("connector", {"image_features": ("FLOAT", (1, 13, 20))},
         {"image_embeds": ("FLOAT", (1, 5, 6)), "image_index": ("INT64", (5,))}),
        ("embed", {"input_ids": ("INT64", (1, 7))}, {"text_embeds": ("FLOAT", (1, 7, 6))}),
        ("prefill",
         {"inputs_embeds": ("FLOAT", (1, 12, 6)), "position_ids": ("INT64", (1, 12)),
          "last_index": ("INT64", (1,))},
         {"logits": ("FLOAT", (1, 11)),
          **{f"{k}_{i}": ("FLOAT", (1, 3, 12, 4)) for i in (0, 1) for k in ("key", "value")}}),
        ("decode",
         {"inputs_embeds": ("FLOAT", (1, 1, 6)), "position_ids": ("INT64", (1, 1)),
          "attention_mask": ("BOOL", (1, 1, 1, 18)),
          **{f"past_{k}_{i}": ("FLOAT", (1, 3, 17, 4)) for i in (0, 1) for k in ("key", "value")}},
         {"logits": ("FLOAT", (1, 11)),
          **{f"{k}_{i}": ("FLOAT", (1, 3, 1, 4)) for i in (0, 1) for k in ("key", "value")}}),
    ],
)  # fmt: skip
def test_ports_of_every_role(role, inputs, outputs):
    contract = Contract(**SIZES)
    assert shapes(contract.inputs(role)) == inputs
    assert shapes(contract.outputs(role)) == outputs
    signature = contract.signature(role)
    assert set(signature) == set(inputs) | set(outputs)
    assert all(len(signature[n]) == len(s) for n, (_, s) in (inputs | outputs).items())


def test_the_order_of_cache_ports_is_layer_by_layer():
    names = [p.name for p in Contract(**SIZES).inputs("decode")[3:]]
    assert names == ["past_key_0", "past_value_0", "past_key_1", "past_value_1"]


def test_an_unpruned_connector_tells_no_index():
    whole = Contract(**SIZES | {"kept_image_tokens": 12, "kv_capacity": 24})
    assert shapes(whole.outputs("connector")) == {"image_embeds": ("FLOAT", (1, 12, 6))}


def test_a_classifier_is_one_part_with_logits():
    contract = Contract(**SIZES | {"kind": "classifier", "kv_capacity": 1})
    assert contract.roles == CLASSIFIER_ROLES and Contract(**SIZES).roles == VLM_ROLES
    assert shapes(contract.outputs("vision")) == {"logits": ("FLOAT", (1, 11))}


def test_axes_name_what_passes_look_for():
    signature = Contract(**SIZES).signature("decode")
    assert signature["past_key_1"] == ("batch", "head", "kv", "head_dim")
    assert signature["key_1"] == ("batch", "head", "token", "head_dim")
    assert signature["attention_mask"][-1] == "kv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept_image_tokens": 13}, "keeps 13 of 12"),
        ({"kept_image_tokens": 0}, "greater than or equal to 1"),
        ({"kv_capacity": 12}, "no row for an answer"),
        ({"layers": -1}, "greater than or equal to 1"),
        ({"width": 10**8}, "less than or equal"),
        ({"width": 6.0}, "valid integer"),
        ({"width": True}, "valid integer"),
        ({"width": "6"}, "valid integer"),
        ({"grid": (3, 4, 5)}, "at most 2 items"),
        ({"kind": "speech"}, "'vlm', 'classifier' or 'dense'"),
        ({"kv_dtype": "INT4"}, "'FLOAT16' or 'INT8'"),
        ({"kv_dtype": "int8"}, "'FLOAT16' or 'INT8'"),
        ({"family": "f" * 65}, "at most 64"),
        ({"colour": 1}, "not permitted"),
    ],
)
def test_numbers_that_contradict_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Contract(**SIZES | change)


def test_caches_of_int8_are_the_same_ports_of_another_type_and_a_quarter_of_the_bytes():
    plain, coded = Contract(**SIZES), Contract(**SIZES, kv_dtype="INT8")
    assert plain.kv_dtype == "FLOAT"  # as manifests say that know of nothing else
    assert plain.kv_bytes == 2 * 2 * 3 * 17 * 4 * 4 and coded.kv_bytes == plain.kv_bytes // 4
    for role in VLM_ROLES:
        for side in ("inputs", "outputs"):
            for a, b in zip(getattr(plain, side)(role), getattr(coded, side)(role), strict=True):
                cache = a.name.removeprefix("past_").startswith(("key_", "value_"))
                assert b.dtype == ("INT8" if cache else a.dtype)
                assert a == b.model_copy(update={"dtype": a.dtype})
    shorter = Contract(**SIZES, kv_dtype="INT8", layer_tokens=(5, 2))
    assert shorter.kv_bytes == 2 * 3 * 4 * (17 + 14)


def test_it_cannot_be_edited():
    with pytest.raises(ValidationError, match="frozen"):
        Contract(**SIZES).width = 7


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 20))
def test_any_consistent_numbers_survive_json(kept, dropped, prompt, answer):
    sizes = {"kept_image_tokens": kept, "image_tokens": kept + dropped, "prompt_capacity": prompt}
    contract = Contract(**SIZES | sizes | {"kv_capacity": kept + prompt + answer})
    assert Contract.model_validate_json(json.dumps(contract.model_dump())) == contract
    assert contract.inputs("prefill")[0].shape[1] == contract.outputs("prefill")[1].shape[2]
    assert contract.inputs("decode")[2].shape[-1] == contract.kv_capacity + 1
