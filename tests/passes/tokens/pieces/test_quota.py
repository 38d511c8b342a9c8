"""Whole budgets in proportion, and the search over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.tokens.pieces.budget_search import search_budgets
from edgevlm.passes.tokens.pieces.quota import quotas

some = st.integers(1, 12)


@given(data=st.data())
def test_quotas_sum_to_the_total_whatever_the_shares(data):
    sizes = data.draw(st.lists(some, min_size=1, max_size=8))
    shares = data.draw(
        st.lists(st.floats(0, 9), min_size=len(sizes), max_size=len(sizes)).filter(any)
    )
    total = data.draw(st.integers(0, sum(sizes)))
    found = quotas(total, shares, sizes)
    assert sum(found) == total
    assert all(0 <= f <= s and isinstance(f, int) for f, s in zip(found, sizes, strict=True))


@given(data=st.data())
def test_with_room_enough_they_are_within_one_of_the_exact_share(data):
    shares = np.array(data.draw(st.lists(st.floats(0.01, 9), min_size=1, max_size=8)))
    total = data.draw(st.integers(0, 200))
    found = quotas(total, shares, [200] * len(shares))
    exact = total * shares / shares.sum()
    assert (np.abs(found - exact) < 1 + 1e-9).all()


@pytest.mark.parametrize(
    ("total", "shares", "sizes", "want"),
    [
        (10, [1, 1, 1], [9, 9, 9], [4, 3, 3]),
        (10, [0.5, 0.25, 0.25], [9, 9, 9], [5, 3, 2]),
        (10, [1, 0, 0], [4, 9, 9], [4, 3, 3]),
        (10, [8, 1, 1], [5, 9, 9], [5, 3, 2]),
        (0, [1, 1], [3, 3], [0, 0]),
        (6, [0, 1], [3, 3], [3, 3]),
    ],
)
def test_by_largest_remainder_and_what_is_full_goes_to_the_others(total, shares, sizes, want):
    assert quotas(total, shares, sizes) == want


WORTH = np.array([5.0, 1.0, 0.2, 3.0])


def toy(vector):
    """What each view gives, with less and less a token; the optimum is known by trying all."""
    return float((WORTH * np.sqrt(vector)).sum())


def test_the_search_finds_what_trying_everything_finds():
    sizes, total = [8, 8, 8, 8], 12
    lattice = np.stack(np.meshgrid(*[np.arange(9)] * 4, indexing="ij"), -1).reshape(-1, 4)
    every = lattice[lattice.sum(1) == total]
    best = max(every.tolist(), key=toy)
    found, value = search_budgets(toy, total, sizes, trials=200)
    assert list(found) == best and value == toy(found)
    assert value > toy(quotas(total, [1] * 4, sizes))


def test_it_never_answers_worse_than_equal_shares_nor_asks_more_than_it_may():
    asked = []

    def spiteful(vector):
        asked.append(vector)
        return 1.0 if vector == (3, 3, 3) else 0.0

    found, value = search_budgets(spiteful, 9, [9, 9, 9], trials=20)
    assert found == (3, 3, 3) and value == 1.0
    assert len(asked) == len(set(asked)) <= 20 and all(sum(v) == 9 for v in asked)


def test_the_same_seed_is_the_same_search():
    runs = [search_budgets(toy, 11, [8] * 4, trials=30, seed=s) for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert search_budgets(toy, 0, [8] * 4)[0] == (0, 0, 0, 0)
    assert search_budgets(toy, 32, [8] * 4)[0] == (8, 8, 8, 8)


def test_more_trials_are_no_worse():
    values = [search_budgets(toy, 13, [8] * 4, trials=t, seed=3)[1] for t in (1, 5, 20, 100)]
    assert values[0] == toy(quotas(13, [1] * 4, [8] * 4)) and max(values) == values[-1]
