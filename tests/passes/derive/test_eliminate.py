"""The order in which hidden units go, against least squares on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.derive import eliminate as module
from edgevlm.passes.derive.eliminate import eliminate
from edgevlm.passes.derive.units import Moments


def drawn(seed, rows, units, outs):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(units, units)) * np.geomspace(1, 0.1, units)[:, None]
    return np.maximum(rng.normal(size=(rows, units)) @ mix + 0.2, 0), rng.normal(size=(outs, units))


def residual(hidden, weights, keep):
    """|H W^T - H_r W'^T|^2 with the best W'."""
    wanted = hidden @ weights.T
    if len(keep) == 0:
        return (wanted**2).sum()
    best = np.linalg.lstsq(hidden[:, keep], wanted, rcond=None)[0]
    return ((wanted - hidden[:, keep] @ best) ** 2).sum()


@given(seed=st.integers(0, 300), units=st.integers(2, 14))
def test_what_is_lost_is_the_residual_of_least_squares(seed, units):
    hidden, weights = drawn(seed, 120, units, 4)
    order = eliminate(weights, hidden.T @ hidden)
    assert sorted(order.units) == list(range(units)) and order.lost[-1] == 0
    assert (np.diff(order.lost) <= 1e-9).all(), "the more units the less is lost"
    whole = residual(hidden, weights, [])
    for count in range(units + 1):
        wanted = residual(hidden, weights, order.keep(count))
        assert order.lost[count] == pytest.approx(wanted, rel=1e-2, abs=1e-3 * whole)


@given(seed=st.integers(0, 300), units=st.integers(2, 10))
def test_the_first_to_go_is_the_one_that_is_missed_least(seed, units):
    """Against every other choice."""
    hidden, weights = drawn(seed, 120, units, 4)
    first = eliminate(weights, hidden.T @ hidden).units[-1]
    losses = [residual(hidden, weights, np.delete(np.arange(units), i)) for i in range(units)]
    assert losses[first] <= min(losses) * (1 + 1e-3) + 1e-6


def test_twins_and_units_that_never_fire_go_for_nothing():
    hidden, weights = drawn(0, 100, 8, 3)
    hidden[:, 2] = hidden[:, 5]
    hidden[:, 6] = 0
    order = eliminate(weights, hidden.T @ hidden)
    gone = set(order.units[6:])
    assert 6 in gone and gone & {2, 5} and not {2, 5} <= gone
    assert order.lost[6] < 1e-3 * order.lost[5]


def test_with_a_column_of_ones_the_bias_makes_up_for_means():
    hidden, weights = drawn(1, 200, 6, 3)
    hidden[:, 4] = 7.0  # always the same: a bias can do that
    sums = Moments(6)
    sums.see(hidden)
    both, alone = eliminate(weights, sums.h), eliminate(weights, sums.h[:-1, :-1])
    assert both.units[-1] == 4 and both.lost[5] < 0.05 * alone.lost[5]


def test_it_loses_less_than_the_largest_sums_do():
    for seed in range(5):
        hidden, weights = drawn(seed, 400, 48, 12)
        sums = Moments(48)
        sums.see(hidden)
        order = eliminate(weights, sums.h[:-1, :-1])
        for count in (8, 16, 24, 32):
            mine, other = order.keep(count), sums.largest(count)
            assert residual(hidden, weights, mine) < residual(hidden, weights, other)


def test_several_at_a_time_are_nearly_as_good(monkeypatch):
    hidden, weights = drawn(3, 400, 48, 12)
    gram = hidden.T @ hidden
    single = eliminate(weights, gram)
    monkeypatch.setattr(module, "STEPS", 12)
    several = eliminate(weights, gram)
    assert sorted(several.units) == list(range(48))
    for count in (12, 24, 36):
        mine = residual(hidden, weights, several.keep(count))
        assert mine < 1.5 * residual(hidden, weights, single.keep(count))
        assert several.lost[count] == pytest.approx(mine, rel=0.02)


def test_activations_that_are_all_zero_have_an_order_too():
    order = eliminate(np.ones((2, 4)), np.zeros((4, 4)))
    assert sorted(order.units) == [0, 1, 2, 3] and np.isfinite(order.lost).all()
