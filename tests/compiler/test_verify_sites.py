"""Choices that differ, inside a part: what stands behind them is matched by place or left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.contract import Contract, LayerSite
from edgevlm.compiler.matching import compare_outputs, overlap_of
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.compiler.reference import Reference, observe
from edgevlm.compiler.verify import answered_otherwise, chosen_otherwise
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.tokens.keep_tokens import KeepTokens

RNG = np.random.default_rng(0)
N, TEXT, START, LAYERS = 8, 5, 2, 3
TABLE = RNG.normal(size=(LAYERS, N + TEXT, 4)).astype(np.float32)  # what each place becomes


def contract(*sites):
    tokens, left = [], N
    for layer in range(LAYERS):
        here = next((s for s in sites if s.layer == layer), None)
        tokens.append(here.tokens if here else left)
        left = left if here is None or here.returns else here.tokens
    return Contract(
        family="m", image_height=1, image_width=1, grid=(1, N), vision_tokens=N, vision_width=1,
        image_tokens=N, kept_image_tokens=N, prompt_capacity=TEXT, kv_capacity=20, width=4,
        layers=LAYERS, kv_heads=1, head_dim=4, vocabulary=4, sites=sites,
        layer_tokens=tuple(tokens) if sites else (),
    )  # fmt: skip


def prefill(c, choices, table=TABLE, logits=1.0):
    """Outputs of a prefill that keeps these places (in what each site is given)."""
    out = {"logits": np.full((1, 4), logits, np.float32)}
    places = np.arange(N)
    for layer in range(LAYERS):
        here = next((s for s in c.sites if s.layer == layer), None)
        own = places
        if here is not None:
            index = np.array(choices[layer], np.int64)
            out[f"image_index_{layer}"] = index
            own = places[index]
            places = places if here.returns else own
        text = np.arange(N, N + TEXT)
        rows = np.concatenate([text[:START], own, text[START:]])
        out |= {f"{k}_{layer}": table[layer, rows][None, None] for k in ("key", "value")}
    return out


def levels(want, got, c):
    found, overlap = compare_outputs(want, got, c, START)
    return {f.drift.where: (f.drift.sqnr_db, f.behind) for f in found}, overlap


ONE = contract(LayerSite(layer=1, given=N, tokens=3))
TWO = contract(LayerSite(layer=1, given=N, tokens=4), LayerSite(layer=2, given=4, tokens=2))
BACK = contract(LayerSite(layer=1, given=N, tokens=3, returns=True))


def test_layers_in_front_of_a_site_are_compared_as_they_are():
    got, overlap = levels(prefill(ONE, {1: [0, 3, 5]}), prefill(ONE, {1: [0, 3, 6]}), ONE)
    assert got["key_0"] == (200, False) and got["value_0"] == (200, False)
    assert got["key_1"] == (200, True) and got["logits"][1]  # by place: the same tokens
    assert overlap == pytest.approx(2 / 4)


def test_rows_are_matched_by_their_place_through_two_sites():
    """4 tokens each, 3 of them the same, at other rows; then 2 of those."""
    want = prefill(TWO, {1: [0, 3, 5, 7], 2: [1, 3]})  # places 3 and 7
    got = prefill(TWO, {1: [3, 4, 5, 7], 2: [0, 3]})  # places 3 and 7 as well
    assert not np.array_equal(want["image_index_2"], got["image_index_2"])
    found, overlap = levels(want, got, TWO)
    assert all(db == 200 for db, _ in found.values()), found
    assert overlap == pytest.approx(1 / 3)  # of row numbers: the smaller of the two


def test_tokens_that_return_are_matched_in_their_own_layer_only():
    found, _ = levels(prefill(BACK, {1: [0, 3, 5]}), prefill(BACK, {1: [1, 3, 6]}), BACK)
    assert found["key_1"] == (200, True) and found["key_2"] == (200, True)
    assert found["key_0"] == (200, False)


def test_an_error_in_a_token_both_kept_is_seen_and_in_one_that_only_one_kept_is_not():
    for place, seen in ((3, True), (6, False)):
        table = TABLE.copy()
        table[1, place] *= 1.5
        found, _ = levels(
            prefill(ONE, {1: [0, 3, 5]}), prefill(ONE, {1: [0, 3, 6]}, table), ONE
        )  # fmt: skip
        assert (found["key_1"][0] < 30) is seen


def test_words_around_the_image_are_always_compared():
    for row in (N, N + 1, N + 2, N + TEXT - 1):
        table = TABLE.copy()
        table[2, row] *= 1.5
        found, _ = levels(
            prefill(ONE, {1: [0, 3, 5]}), prefill(ONE, {1: [1, 2, 4]}, table), ONE
        )  # fmt: skip
        assert found["key_2"][0] < 30 and found["key_1"][0] == 200


def test_a_site_that_keeps_nothing_leaves_words():
    none = contract(LayerSite(layer=2, given=N, tokens=0))
    a = prefill(none, {2: []})
    a.pop("image_index_2")
    found, overlap = levels(a, a, none)
    assert overlap is None and found["key_2"] == (200, False)


class Parts:
    """Outputs by the number of the probe."""

    def __init__(self, *outputs):
        self.outputs = outputs

    def call(self, role, feeds):
        return self.outputs[int(feeds["probe"])]


def compared(c, before, after):
    feeds = [
        {"prefill": {"probe": np.array(i), "image_start": np.array([START])}}
        for i in range(len(before))
    ]
    reference = Reference(feeds, [], [], [], c)
    return compare_parts(Parts(*before), Parts(*after), reference, ["prefill"])["prefill"]


def test_what_stands_behind_a_choice_that_differs_is_left_out_where_another_probe_shows_it():
    same, other = {1: [0, 3, 5]}, {1: [1, 2, 4]}
    drift = compared(
        ONE, [prefill(ONE, same)] * 2, [prefill(ONE, same), prefill(ONE, other, logits=9)]
    )
    assert drift.sqnr_db == 200 and drift.overlap == 0  # and the overlap is told


def test_it_is_not_left_out_where_no_probe_shows_it():
    same, other = {1: [0, 3, 5]}, {1: [0, 3, 4]}
    drift = compared(ONE, [prefill(ONE, same)], [prefill(ONE, other, logits=9)])
    assert drift.where == "logits" and drift.sqnr_db < 0


def test_an_error_in_front_of_the_choice_is_seen_on_every_probe():
    table = TABLE.copy()
    table[0] *= 1.01
    same, other = {1: [0, 3, 5]}, {1: [0, 3, 4]}
    drift = compared(
        ONE, [prefill(ONE, same)] * 2, [prefill(ONE, same), prefill(ONE, other, table)]
    )
    assert drift.where in ("key_0", "value_0") and 39 < drift.sqnr_db < 41


def test_the_class_token_in_front_of_the_features_is_no_token_of_the_grid():
    table = RNG.normal(size=(1 + N, 4)).astype(np.float32)

    def seen(places):
        rows = np.concatenate([[0], 1 + np.array(places)])
        return {"image_features": table[None, rows], "image_index": np.array(places)}

    found, overlap = compare_outputs(seen([1, 4, 7]), seen([0, 4, 7]))
    assert found[0].drift.sqnr_db == 200 and found[0].behind and overlap == pytest.approx(2 / 4)
    found, _ = compare_outputs(seen([1, 2]), seen([0, 4]))
    assert found[0].drift.sqnr_db == -np.inf  # the class token alone is no agreement


def test_logits_and_maps_have_no_rows_of_tokens():
    for name, shape in (("logits", (1, 6)), ("map", (1, 2, 4, 4))):
        value = RNG.normal(size=shape).astype(np.float32)
        want = {name: value, "image_index": np.array([0, 2])}
        found, overlap = compare_outputs(want, want | {"image_index": np.array([0, 3])})
        assert found[0].drift.sqnr_db == 200 and overlap == pytest.approx(1 / 3)


@given(st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9), min_size=1))
def test_overlap_is_jaccard(a, b):
    assert overlap_of(np.array(sorted(a)), np.array(sorted(b))) == len(a & b) / len(a | b)


def test_answers_count_only_where_the_choices_are_the_same():
    one, other = ({"prefill/image_index_1": np.array(p)} for p in ([0, 1], [0, 2]))
    a = Reference([], [], [(1,), (1,), (1,)], [one, one, one])
    b = Reference([], [], [(1,), (2,), (2,)], [one, one, other])
    assert chosen_otherwise(a, b) == [False, False, True]
    assert answered_otherwise(a, b) == {1}


def test_what_was_kept_is_observed_by_part_and_output(make_micro, micro_probes):
    model = make_micro(layers=2)
    model = KeepTokens(keep=5, method="dart")(model).model
    model = KeepTokens(keep=2, method="dart", at="llm:1")(model).model
    seen = observe(model, micro_probes)
    assert seen.contract == model.contract and len(seen.choices) == len(micro_probes)
    for choices in seen.choices:
        assert {k: len(v) for k, v in choices.items()} == {
            "connector/image_index": 5, "prefill/image_index_1": 2,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "sites"), [("v2drop", ["llm:1", "llm:2"]), ("divprune", ["llm:1", "llm:3"])]
)
def test_rounding_of_weights_is_told_from_another_choice(tiny_model, tiny_probes, method, sites):
    """int8 weights change some greedy choice of some probe, and no part seems broken by it."""
    steps = [
        KeepTokens(keep=k, method=method, at=at) for k, at in zip((32, 16), sites, strict=True)
    ]
    _, record, _ = run_passes(tiny_model, [*steps, QuantizeWeights()], tiny_probes)
    drift = record[-1].check.drift["prefill"]
    assert drift.sqnr_db > 30 and 0 < drift.overlap <= 1
    if method == "divprune":  # else nothing was shown
        assert drift.overlap < 1
