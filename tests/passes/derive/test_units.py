"""Hidden units: which go, and what the others do for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.derive.units import SMALL, Moments, _divided, levelled, refit


def sums_of(hidden, pieces=1):
    sums = Moments(hidden.shape[-1])
    for piece in np.array_split(hidden, pieces):
        sums.see(piece)
    return sums


def drawn(seed, rows, units, outs):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(units, units)) * np.geomspace(1, 0.05, units)
    hidden = np.maximum(rng.normal(size=(rows, units)) @ mix + 0.3, 0)
    return hidden, rng.normal(size=(outs, units)), rng.normal(size=outs)


@given(seed=st.integers(0, 500), units=st.integers(2, 16), kept=st.integers(1, 16))
def test_it_is_least_squares(seed, units, kept):
    """Against numpy's lstsq on the rows themselves."""
    hidden, weights, bias = drawn(seed, 200, units, 5)
    sums = sums_of(hidden)
    keep = sums.largest(min(kept, units))
    narrow, _ = refit(weights, None, sums, keep)
    found = np.linalg.lstsq(hidden[:, keep], hidden @ weights.T, rcond=None)[0].T
    wanted, got = hidden[:, keep] @ found.T, hidden[:, keep] @ narrow.T
    assert np.allclose(got, wanted, atol=1e-6 * np.abs(wanted).max())
    shifted, moved = refit(weights, bias, sums, keep)
    ones = np.concatenate([hidden[:, keep], np.ones((200, 1))], axis=1)
    best = np.linalg.lstsq(ones, hidden @ weights.T + bias, rcond=None)[0]
    got = hidden[:, keep] @ shifted.T + moved
    assert np.allclose(got, ones @ best, atol=1e-6 * np.abs(got).max())


@given(seed=st.integers(0, 500), wide=st.integers(1, 12), spread=st.floats(0, 14))
def test_with_and_without_eigenvalues_it_is_the_same(seed, wide, spread):
    """From Gram matrices that a solver is safe for to those without an inverse."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(wide, wide)))[0]
    gram = (turn * np.logspace(0, -spread, wide)) @ turn.T
    rows = rng.normal(size=(3, wide)) @ gram
    best = rows @ np.linalg.pinv(gram, SMALL, hermitian=True)
    assert np.allclose(_divided(rows, gram) @ gram, best @ gram, atol=1e-7 * np.abs(rows).max())


def test_twins_are_no_reason_to_fail():
    gram = np.ones((2, 2))
    assert np.allclose(_divided(np.ones((1, 2)), gram), [[0.5, 0.5]])


def test_the_bias_makes_up_for_the_mean_of_what_is_dropped():
    hidden, weights, bias = drawn(0, 400, 32, 6)
    sums, wanted = sums_of(hidden), hidden @ weights.T + bias
    keep = sums.largest(16)
    dropped, alone, both = (
        ((hidden[:, keep] @ w.T + b - wanted) ** 2).sum()
        for w, b in (
            (weights[:, keep], bias),
            (refit(weights, None, sums, keep)[0], bias),
            refit(weights, bias, sums, keep),
        )
    )
    assert both < 0.9 * alone < 0.5 * dropped


def test_all_units_are_the_same_weights():
    hidden, weights, bias = drawn(1, 300, 10, 4)
    narrow, moved = refit(weights, bias, sums_of(hidden), np.arange(10))
    assert np.allclose(narrow, weights, atol=1e-6) and np.allclose(moved, bias, atol=1e-6)


def test_fewer_rows_than_units_and_units_that_never_fire():
    hidden, weights, bias = drawn(2, 7, 40, 4)
    hidden[:, 5:9] = 0
    sums = sums_of(hidden)
    narrow, moved = refit(weights, bias, sums, np.arange(30))
    assert np.isfinite(narrow).all() and np.isfinite(moved).all()
    assert np.allclose(hidden[:, :30] @ narrow.T + moved, hidden @ weights.T + bias, atol=1e-5)
    nothing = Moments(4)
    assert not refit(np.ones((2, 4)), None, nothing, np.arange(2))[0].any()


@given(seed=st.integers(0, 100), pieces=st.integers(1, 9))
def test_images_one_at_a_time_are_all_at_once(seed, pieces):
    hidden = drawn(seed, 30, 6, 1)[0]
    whole, some = sums_of(hidden), sums_of(hidden, pieces)
    assert np.allclose(whole.h, some.h) and whole.tokens == some.tokens == 30


def test_the_absolute_sum_counts_and_not_the_sum_of_absolutes():
    hidden = np.array([[1.0, -3.0, 0.5], [1.0, 3.0, 0.6]])
    assert sums_of(hidden).largest(2).tolist() == [0, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        Moments(2).see(np.array([[1.0, value]]))


@given(
    blocks=st.lists(
        st.tuples(st.integers(1, 100).map(lambda n: 8 * n), st.integers(1, 9)), min_size=1,
        max_size=12,
    ),
    share=st.floats(0, 0.95),
    multiple=st.sampled_from([1, 8, 16]),
)  # fmt: skip
def test_levels(blocks, share, multiple):
    widths, prices = zip(*blocks, strict=True)
    whole = sum(w * p for w, p in blocks)
    found = levelled(widths, prices, share * whole, multiple)
    cost = sum(f * p for f, p in zip(found, prices, strict=True))
    slack = sum(min(multiple, w) * p for w, p in blocks)
    assert all(0 < f <= w for f, w in zip(found, widths, strict=True))
    assert all(f % multiple == 0 or f == w for f, w in zip(found, widths, strict=True))
    assert whole - cost >= share * whole - slack - 1e-6
    assert whole - cost <= share * whole + multiple * sum(prices)
    cut = [f for f, w in zip(found, widths, strict=True) if f < w]
    assert not cut or max(cut) - min(cut) <= multiple, "one level"
    assert all(w <= max(found) for f, w in zip(found, widths, strict=True) if f == w)


def test_levels_by_hand():
    assert levelled([640, 640, 640], [1, 1, 1], 960, 8) == [320, 320, 320]
    assert levelled([100, 640, 640], [1, 1, 1], 640, 8) == [100, 320, 320]
    assert levelled([640, 640], [50, 1], 51 * 320, 8) == [320, 320]
    assert levelled([640, 100], [2, 3], 0, 8) == [640, 100]
    assert levelled([16, 16], [1, 1], 32, 8) == [8, 8]
