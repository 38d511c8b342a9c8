"""The budget solver against every set of choices there is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.budget import allocate

TABLES = st.integers(1, 5).flatmap(
    lambda layers: st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=4),
        min_size=layers,
        max_size=layers,
    )
)


def split(table):
    return [[x for x, _ in layer] for layer in table], [[c for _, c in layer] for layer in table]


def brute(loss, cost, budget):
    fits = []
    for choice in itertools.product(*(range(len(layer)) for layer in loss)):
        spent = sum(layer[i] for layer, i in zip(cost, choice, strict=True))
        if spent <= budget:
            fits.append((sum(layer[i] for layer, i in zip(loss, choice, strict=True)), spent))
    return min(fits, default=None)


@settings(deadline=None)
@given(TABLES, st.integers(0, 120), st.sampled_from([1, 7, 1000]))
def test_it_is_the_best_there_is(table, budget, unit):
    loss, cost = split(table)
    cost = [[c * unit for c in layer] for layer in cost]
    found, best = allocate(loss, cost, budget * unit), brute(loss, cost, budget * unit)
    if best is None:
        assert found is None
        return
    assert (found.loss, found.cost) == best
    assert found.loss == sum(layer[i] for layer, i in zip(loss, found.choices, strict=True))
    assert found.cost == sum(layer[i] for layer, i in zip(cost, found.choices, strict=True))


@settings(deadline=None)
@given(TABLES, st.integers(0, 60), st.integers(0, 60))
def test_more_budget_never_loses_more(table, budget, more):
    loss, cost = split(table)
    small, large = allocate(loss, cost, budget), allocate(loss, cost, budget + more)
    if small is not None:
        assert large is not None and large.loss <= small.loss


@settings(deadline=None)
@given(TABLES, st.integers(0, 120), st.integers(3, 20))
def test_few_bins_keep_the_budget(table, budget, bins):
    """Coarse costs are rounded up: what is found fits, if it is not always the best."""
    loss, cost = split(table)
    found = allocate(loss, cost, budget, bins)
    if found is not None:
        assert found.cost <= budget and found.loss >= brute(loss, cost, budget)[0]


def test_many_layers_of_large_costs():
    """Eighty layers, four widths each, bytes: 5.0 bits a weight on average at most."""
    loss = [[16.0 / 4**b * (1 + i % 7) for b in range(4)] for i in range(80)]
    cost = [[(2 + 2 * b) * 589_824 for b in range(4)] for _ in range(80)]
    found = allocate(loss, cost, 5 * 80 * 589_824)
    assert found.cost <= 5 * 80 * 589_824 < found.cost + 2 * 589_824
    fragile, robust = ([b for i, b in enumerate(found.choices) if i % 7 == kind] for kind in (6, 0))
    assert min(fragile) >= max(robust)


def test_nothing_to_choose_and_nothing_that_fits():
    assert allocate([], [], 0).choices == ()
    assert allocate([[1.0]], [[5]], 4) is None and allocate([[1.0]], [[0]], -1) is None
    assert allocate([[3.0, 1.0]], [[0, 0]], 0).choices == (1,)
    for loss, cost in (([[1.0]], []), ([[]], [[]]), ([[float("nan")]], [[1]]), ([[1.0]], [[-1]])):
        with pytest.raises(ValueError):
            allocate(loss, cost, 9)
