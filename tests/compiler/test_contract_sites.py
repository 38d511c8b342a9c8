"""Sites in the language model: tokens, caches and masks of every layer, and the ports they make."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.compiler.contract import Contract, LayerSite

SIZES = {
    "family": "f", "image_height": 24, "image_width": 32, "grid": (3, 4), "vision_tokens": 13,
    "vision_width": 20, "image_tokens": 12, "kept_image_tokens": 12, "prompt_capacity": 7,
    "kv_capacity": 24, "width": 6, "layers": 4, "kv_heads": 3, "head_dim": 4, "vocabulary": 11,
}  # fmt: skip


def site(layer, given, tokens, returns=False):
    return LayerSite(layer=layer, given=given, tokens=tokens, returns=returns)


TWO = {
    "sites": (site(1, 12, 5), site(3, 5, 2)),
    "layer_tokens": (12, 5, 5, 2),
}
RETURNING = {
    "sites": (site(1, 12, 5, returns=True), site(2, 12, 4)),
    "layer_tokens": (12, 5, 4, 4),
}


def names(ports):
    return [p.name for p in ports]


def shape(ports, name):
    return next(p.shape for p in ports if p.name == name)


def test_without_sites_every_layer_has_what_the_connector_gave():
    c = Contract(**SIZES)
    assert [c.tokens_at(i) for i in range(4)] == [12] * 4
    assert [c.capacity_at(i) for i in range(4)] == [24] * 4
    assert c.masks == {12: "attention_mask"} and c.given_at(3) == 12
    assert "image_start" not in names(c.inputs("prefill"))


def test_tokens_and_caches_of_two_sites():
    c = Contract(**SIZES | TWO)
    assert [c.tokens_at(i) for i in range(4)] == [12, 5, 5, 2]
    assert [c.given_at(i) for i in range(4)] == [12, 12, 5, 5]  # in front of what a site does there
    assert [c.capacity_at(i) for i in range(4)] == [24, 17, 17, 14]
    assert c.masks == {12: "attention_mask", 5: "attention_mask_1", 2: "attention_mask_2"}
    assert c.prefill_length == 19  # the first layer reads all


def test_ports_of_two_sites():
    c = Contract(**SIZES | TWO)
    assert names(c.inputs("prefill"))[-1] == "image_start"
    out = c.outputs("prefill")
    assert names(out)[-2:] == ["image_index_1", "image_index_3"]
    assert [shape(out, f"image_index_{i}") for i in (1, 3)] == [(5,), (2,)]
    assert [shape(out, f"key_{i}")[2] for i in range(4)] == [19, 12, 12, 9]
    into = c.inputs("decode")
    masks = [name for name in names(into) if name.startswith("attention_mask")]
    assert masks == ["attention_mask", "attention_mask_1", "attention_mask_2"]
    assert [shape(into, m)[-1] for m in masks] == [25, 18, 15]
    assert [shape(into, f"past_value_{i}")[2] for i in range(4)] == [24, 17, 17, 14]


def test_tokens_that_return_are_there_again_behind_one_layer():
    c = Contract(**SIZES | RETURNING)
    assert [c.given_at(i) for i in range(4)] == [12, 12, 12, 4]
    assert [c.tokens_at(i) for i in range(4)] == [12, 5, 4, 4]


def test_a_site_that_keeps_nothing_has_no_index():
    c = Contract(**SIZES | {"sites": (site(2, 12, 0),), "layer_tokens": (12, 12, 0, 0)})
    assert not [n for n in names(c.outputs("prefill")) if n.startswith("image_index")]
    assert c.capacity_at(3) == 12 and shape(c.outputs("prefill"), "key_3")[2] == 7


def test_the_first_layer_may_have_a_site_too():
    c = Contract(**SIZES | {"sites": (site(0, 12, 3),), "layer_tokens": (3, 3, 3, 3)})
    assert c.masks == {3: "attention_mask"} and c.prefill_length == 19
    assert shape(c.inputs("decode"), "attention_mask")[-1] == 16


def test_what_leaves_the_vision_part_is_told_by_it_and_given_to_the_connector():
    c = Contract(**SIZES | {"vision_kept": 5, "kept_image_tokens": 5, "vision_tokens": 6})
    assert c.given_tokens == 5
    assert names(c.outputs("vision")) == ["image_features", "image_index"]
    assert names(c.outputs("connector")) == ["image_embeds"]
    both = Contract(**SIZES | {"vision_kept": 8, "kept_image_tokens": 5, "vision_tokens": 9})
    assert names(both.outputs("connector")) == ["image_embeds", "image_index"]
    assert shape(both.outputs("vision"), "image_index") == (8,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer_tokens": (12, 12)}, "layer_tokens has 2 of 4 layers"),
        ({"layer_tokens": (13, 5, 5, 2)}, "more than there is"),
        ({"sites": (site(4, 12, 5),)}, "more than there is"),
        ({"sites": ({"layer": 1, "given": 12, "tokens": -1},)}, "greater than or equal to 0"),
        ({"sites": ({"layer": 1, "given": 12, "tokens": 5, "colour": 1},)}, "not permitted"),
        ({"vision_kept": 13}, "keeps 12 of 13 of 12"),
        ({"vision_kept": 5}, "keeps 12 of 5 of 12"),
        ({"image_positions": "random"}, "'original' or 'renumber'"),
        ({"kind": "dense"}, "states the size of its map"),
    ],
)
def test_numbers_that_contradict_are_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        Contract(**SIZES | TWO | change)


@given(st.lists(st.integers(0, 12), min_size=4, max_size=4), st.sets(st.integers(0, 3)))
def test_any_schedule_survives_json_and_its_ports_fit_together(counts, at):
    tokens, sites, left = [], [], 12
    for layer in range(4):
        if layer in at and counts[layer] < left:
            sites.append(site(layer, left, counts[layer]))
            left = counts[layer]
        tokens.append(left)
    c = Contract(**SIZES | {"sites": tuple(sites), "layer_tokens": tuple(tokens)})
    assert Contract.model_validate_json(json.dumps(c.model_dump())) == c
    for layer in range(4):
        rows = shape(c.outputs("prefill"), f"key_{layer}")[2]
        room = shape(c.inputs("decode"), f"past_key_{layer}")[2]
        assert room - rows == c.kv_capacity - c.prefill_length  # the answer, in every layer
        mask = c.masks[c.tokens_at(layer)]
        assert shape(c.inputs("decode"), mask)[-1] == room + 1
    assert len(set(names(c.inputs("decode")))) == len(c.inputs("decode"))
    assert set(c.signature("prefill")) == {
        p.name for p in (*c.inputs("prefill"), *c.outputs("prefill"))
    }
