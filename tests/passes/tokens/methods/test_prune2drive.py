"""Prune2Drive: DivPrune in each view, budgets that sum to K."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.pieces.quota import quotas


def spread(x, keep):
    """Greedy max-min in cosine distance, from the most isolated token on."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    away = np.maximum(1 - unit @ unit.T, 0)
    taken = [int(np.argmax((away + 1e9 * np.eye(len(x))).min(1)))]
    while len(taken) < keep:
        near = away[taken].min(0)
        near[taken] = -1
        taken.append(int(np.argmax(near)))
    return taken


def expected(x, keep, members, shares):
    found = []
    budgets = quotas(keep, shares, [len(m) for m in members])
    for places, few in zip(members, budgets, strict=True):
        found += [places[i] for i in spread(x[places], few)] if few else []
    return sorted(int(i) for i in found)


def bands(rows, columns, views, by):
    lattice = np.arange(rows * columns).reshape(rows, columns)
    if by == "columns":
        return [part.reshape(-1) for part in np.array_split(lattice, views, axis=1)]
    return np.array_split(lattice.reshape(-1), views)


@pytest.mark.parametrize(
    ("by", "views", "shares", "keep"),
    [
        ("rows", 2, "", 2),
        ("columns", 2, "", 7),
        ("columns", 2, "", 19),
        ("rows", 3, "0.5:0.25:0.25", 7),
        ("columns", 3, "0.5:0.25:0.25", 7),
        ("rows", 4, "0:1:1:5", 19),
        ("columns", 4, "0:1:1:5", 7),
    ],
)
def test_each_view_keeps_its_own_farthest_tokens(spied, by, views, shares, keep):
    weights = [float(s) for s in shares.split(":")] if shares else [1.0] * views
    for seed in range(3):
        x, index, _ = spied(
            "prune2drive", "connector-out", keep, seed, views=views, by=by, shares=shares
        )
        assert index.tolist() == expected(x, keep, bands(4, 5, views, by), weights)


def test_one_view_is_divprune(spied):
    for seed in range(4):
        for keep in (1, 6, 19):
            one = spied("prune2drive", "connector-out", keep, seed)[1]
            assert one.tolist() == spied("divprune", "connector-out", keep, seed)[1].tolist()


def test_what_one_view_holds_does_not_move_the_choice_in_another(spied):
    rows = np.random.default_rng(0).normal(size=(20, 16))
    other = rows.copy()
    other[10:] = np.random.default_rng(1).normal(size=(10, 16)) * 30
    kept = [spied("prune2drive", "llm:0", 8, rows=r, views=2)[1] for r in (rows, other)]
    assert [int((k < 10).sum()) for k in kept] == [4, 4]
    assert kept[0][:4].tolist() == kept[1][:4].tolist()
    assert kept[0][4:].tolist() != kept[1][4:].tolist()


def test_the_bundled_model_in_front_of_layer_1(in_tiny):
    model, found = in_tiny("prune2drive:views=2,by=columns,shares=3:1")
    assert [s.layer for s in model.contract.sites] == [1]
    for got in found:
        x = got.trace.layers[1].entry[got.prompt.image]
        want = expected(x, 16, bands(8, 8, 2, "columns"), [3, 1])
        assert got.index(1).tolist() == want
        assert int((got.index(1) % 8 < 4).sum()) == 12


def test_budgets_are_noted(small, put_in):
    from edgevlm.passes.tokens.keep_tokens import KeepTokens

    options = {"views": "3", "shares": "0.5:0.25:0.25"}
    step = KeepTokens(keep=10, method="prune2drive", at="llm:1", options=options)
    assert any(n.why == "tokens of each view: 5, 3, 2" for n in step(small()).notes)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"views": 3, "shares": "1:2"}, "2 shares for 3 views"),
        ({"views": 2, "shares": "0:0"}, "one of them above 0"),
        ({"views": 2, "shares": "1:-1"}, "0 and more"),
        ({"views": 2, "shares": "1:nan"}, "0 and more"),
        ({"views": 2, "shares": "1:b"}, "could not convert"),
        ({"views": 0}, "greater than or equal to 1"),
    ],
)
def test_options_it_refuses(options, why):
    with pytest.raises(UsageFault, match=why) as caught:
        METHODS["prune2drive"](**options)
    assert caught.value.code == "EV202"


def test_more_views_than_the_grid_has_columns(put_in, small):
    with pytest.raises(UsageFault, match="4 x 5 tokens"):
        put_in(small(), "prune2drive", "connector-out", 6, views=6, by="columns")


def test_default_sites_are_sites_of_any_model():
    assert [str(s) for s in METHODS["prune2drive"]().default_sites(32, None)] == ["llm:1"]
    assert [str(s) for s in METHODS["prune2drive"]().default_sites(1, None)] == ["llm:0"]
