"""VLM-Pruner against numpy: each round over all of M (1 + lambda d), nothing factorised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS


def choose(tokens, keys, places, grid, keep, pivots=4, channels=256, batch=16, near=0.5, beta=0.3):
    """(places ascending, content) as the card says, in loops."""
    count = len(tokens)
    taken = [int(np.abs(keys).sum(1).argmax())]
    while len(taken) < min(pivots, keep):
        away = np.sqrt(((keys[:, None] - keys[taken]) ** 2).sum(-1)).min(1)
        away[taken] = -1
        taken.append(int(away.argmax()))
    best = np.argsort(-tokens.var(0), kind="stable")[:channels]
    unit = tokens[:, best] / np.sqrt((tokens[:, best] ** 2).sum(1, keepdims=True))
    alike = unit @ unit.T
    where = np.stack(np.divmod(places, grid[1]), -1)
    apart = np.sqrt(((where[:, None] - where) ** 2).sum(-1)) / np.hypot(*grid)
    while len(taken) < keep:
        push = 1 + near * apart[:, taken].min(1)
        worst = (alike[:, taken] * push[:, None]).max(1)
        worst[taken] = np.inf
        taken += np.argsort(worst, kind="stable")[: min(batch, keep - len(taken))].tolist()
    index = np.sort(taken)
    content = tokens[index].copy()
    dropped = np.setdiff1d(np.arange(count), index)
    to = alike[dropped][:, index].argmax(1)
    for slot in range(keep):
        weight = np.maximum(alike[dropped[to == slot], index[slot]], 0)
        if weight.sum() > 1e-8:
            mean = (weight / weight.sum()) @ tokens[dropped[to == slot]]
            content[slot] = beta * content[slot] + (1 - beta) * mean
    return index, content


def of(got, depth, places=None, trace=None):
    """(tokens, keys, places) in front of a layer, by the reference."""
    layers = (trace or got.trace).layers
    image = got.prompt.start + (np.arange(got.prompt.count) if places is None else places)
    keys = layers[depth - 1].k[:, image].transpose(1, 0, 2).reshape(len(image), -1)
    return layers[depth].entry[image], keys, image - got.prompt.start


OPTIONS = [
    {},
    {"batch": 3},
    {"batch": 1, "near": 4.0},
    {"batch": 2, "near": 0.0, "pivots": 2},
    {"channels": 5, "batch": 4, "beta": 0.8},
]


@pytest.mark.parametrize(
    ("keep", "options"), [(1, {}), (3, {}), (18, {}), *((9, o) for o in OPTIONS)], ids=str
)
def test_it_is_the_cards(in_micro, keep, options):
    for seed in range(3):
        got = in_micro("vlm-pruner", "llm:2", keep, seed, spy=True, **options)
        index, content = choose(*of(got, 2), (4, 5), keep, **options)
        assert got.index(2).tolist() == index.tolist()
        np.testing.assert_allclose(got.out["spy/content"], content, rtol=2e-3, atol=2e-3)


def test_the_grid_matters_and_so_does_its_weight(in_micro):
    moved = 0
    for seed in range(6):
        none, some = (
            in_micro("vlm-pruner", "llm:2", 9, seed, batch=1, near=near).index(2)
            for near in (0.0, 4.0)
        )
        moved += none.tolist() != some.tolist()
    assert moved


def test_beta_one_merges_nothing(in_micro):
    got = in_micro("vlm-pruner", "llm:2", 6, beta=1.0, spy=True)
    assert got.index(2).tolist() == in_micro("vlm-pruner", "llm:2", 6).index(2).tolist()
    assert "spy/content" not in got.out


def test_duplicates_fill_the_budget_too(in_micro):
    """Public code stops early there."""
    rows = np.repeat(np.random.default_rng(0).normal(size=(2, 16)), 10, 0)
    got = in_micro("vlm-pruner", "llm:1", 13, rows=rows, batch=4)
    assert len(set(got.index(1).tolist())) == 13


def test_places_are_carried_over_sites_in_front(in_micro):
    """Without merging in front, what is left is known by masking."""
    got = in_micro("vlm-pruner", "llm:1,llm:2", (12, 5), beta=1.0, batch=2, near=3.0)
    left = got.index(1)
    tokens, keys, places = of(got, 2, left, got.trace_behind(1))
    index, _ = choose(tokens, keys, places, (4, 5), 5, batch=2, near=3.0)
    assert got.index(2).tolist() == index.tolist()
    wrong, _ = choose(tokens, keys, np.arange(12), (4, 5), 5, batch=2, near=3.0)
    assert wrong.tolist() != index.tolist()  # the test can fail


def test_places_come_from_positions_where_tokens_left_in_another_part(
    tiny_model, tiny_probes, decided
):
    """Behind the connector 32 of 64 are kept; prefill is given those, and their positions."""
    options = {"near": 5.0, "batch": 2}
    model = KeepTokens(keep=32, method="dart")(tiny_model).model
    model = KeepTokens(keep=8, method="vlm-pruner", at="llm:2", options=options)(model).model
    for got in decided(model, tiny_probes[::4]):
        places = got.prompt.positions[got.prompt.image] - got.prompt.start
        assert len(places) == 32 and places.max() > 32
        tokens, keys, _ = of(got, 2)
        index, _ = choose(tokens, keys, places, (8, 8), 8, **options)
        assert got.index(2).tolist() == index.tolist()


def test_the_bundled_model_at_its_default_site(in_tiny):
    model, found = in_tiny("vlm-pruner")
    assert [(s.layer, s.tokens) for s in model.contract.sites] == [(2, 16)]
    for got in found:
        index, _ = choose(*of(got, 2), (8, 8), 16)
        assert got.index(2).tolist() == index.tolist()


def test_renumbered_positions_tell_nothing(small, put_in):
    model = put_in(small(), "dart", "connector-out", 12, position="renumber").model
    with pytest.raises(UsageFault, match="places in the grid") as caught:
        put_in(model, "vlm-pruner", "llm:2", 5)
    assert caught.value.code == "EV230"


def test_the_choice_holds_for_any_question_and_any_padding(in_micro):
    kept = in_micro("vlm-pruner", "llm:2", 6).index(2).tolist()
    for asked in ({"after": 1}, {"after": 4}, {"idle": 9.0}):
        assert in_micro("vlm-pruner", "llm:2", 6, **asked).index(2).tolist() == kept
    assert not METHODS["vlm-pruner"].text_aware


def test_a_short_chain_takes_more_a_round(small, put_in):
    """TensorRT builds chains of 128 steps; a form with 6 gets larger rounds, and a note."""
    short = replace(FORMS["ort"], steps=6)
    made = put_in(small(), "vlm-pruner", "llm:2", 18, form=short, batch=2)
    rows = np.random.default_rng(0).normal(size=(20, 16))
    assert len(set(made.choose(rows).tolist())) == 18


def test_it_refuses_a_site_with_no_keys_in_front(in_micro):
    with pytest.raises(UsageFault, match="llm:1 is the first site"):
        in_micro("vlm-pruner", "llm:0", 5)
