"""DASQ sought jointly: nothing is better for its scales and shifts, by trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.quantize.dasq import decompose
from edgevlm.passes.quantize.dasq_joint import _spend, search
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale

BITS = st.sampled_from([(2, 4), (3, 4), (4, 4), (3, 3), (4, 8), (2, 2)])


def skewed(n, m, seed=0, share=0.02):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, m)) * rng.uniform(0.5, 2, (n, 1))
    w[rng.random((n, m)) < share] *= 8
    return w


def error(w, found):
    return float(np.square(w - found.weights()).sum() / np.square(w).sum())


def least_by_trying(row, scale, shift, bits, count):
    """Of every set of places and every pair of integers."""
    dense, sparse = (np.arange(Grid(b).low, Grid(b).high + 1) for b in bits)
    both = (dense[:, None] + np.exp2(shift) * sparse).ravel()
    alone = np.square(row[:, None] - scale * dense).min(1)
    paired = np.square(row[:, None] - scale * both).min(1)
    sets = itertools.combinations(range(len(row)), count)
    return min(sum(np.where(np.isin(np.arange(len(row)), s), paired, alone)) for s in sets)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 9), BITS, st.integers(0, 2))
def test_no_other_integers_are_better(seed, n, m, bits, count):
    w = skewed(n, m, seed, 0.2)
    found = search(w, *bits, keep=1 - min(count, m) / m, by_row=True)
    for row, scale, shift, got in zip(w, found.scale, found.shift, found.weights(), strict=True):
        best = least_by_trying(row, scale, shift, bits, min(count, m))
        assert np.square(row - got).sum() == pytest.approx(best, rel=1e-9, abs=1e-20)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(4, 60),
    BITS,
    st.sampled_from([0.9, 0.95, 0.98]),
    st.booleans(),
)
def test_what_it_promises(seed, n, m, bits, keep, by_row):
    w = skewed(n, m, seed)
    found = search(w, *bits, keep, by_row=by_row)
    each = int(np.ceil((1 - keep) * m - 1e-9))
    assert not found.sparse[~found.mask].any()
    if by_row:
        assert (found.mask.sum(1) <= each).all()
    else:
        assert found.mask.sum() <= round((1 - keep) * n * m)
    for part, grid in ((found.dense, Grid(bits[0])), (found.sparse, Grid(bits[1]))):
        assert grid.low <= part.min() and part.max() <= grid.high
    assert (found.scale == found.scale.astype(np.float32)).all()


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("bits", [3, 4])
def test_in_turns_is_never_better_here(bits, by_row):
    for seed in range(5):
        w = skewed(48, 64, seed)
        turns, _ = decompose(w, bits, by_row=by_row)
        assert error(w, search(w, bits, by_row=by_row)) < error(w, turns)


def test_scales_and_shifts_are_near_the_best_of_a_fine_scan():
    w = skewed(3, 24, seed=7, share=0.08)
    found = search(w, 3, 4, keep=1 - 1 / 24, by_row=True)
    for row, got in zip(w, found.weights(), strict=True):
        top = np.abs(row).max()
        scan = min(
            least_by_trying(row, top * share, u, (3, 4), 1)
            for share in np.geomspace(0.015, 0.4, 200)
            for u in range(-3, 4)
        )
        assert scan * 0.98 < np.square(row - got).sum() < scan * 1.05


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 20))
def test_the_budget_goes_where_it_mends_most(seed, n, most, budget):
    """For what is spent, no other way to spend it leaves less."""
    rng = np.random.default_rng(seed)
    curves = np.sort(rng.integers(0, 50, (n, most + 1)).astype(float), 1)[:, ::-1]
    spent = _spend(curves, budget)
    assert spent.sum() <= budget
    least = {0: 0.0}
    for row in curves:
        options = [(c + i, e + x) for c, e in least.items() for i, x in enumerate(row)]
        least = {c: min(e for d, e in options if d == c) for c, _ in options}
    best = min(e for c, e in least.items() if c <= spent.sum())
    assert curves[np.arange(n), spent].sum() == pytest.approx(best)


def test_rows_of_equal_price_share_the_budget():
    spent = _spend(np.tile([5.0, 1.0, 1.0], (10, 1)), 7)
    assert spent.sum() == 7 and spent.max() == 1


def test_folded_it_is_one_int8_tensor():
    w = skewed(64, 200, seed=3)
    found = search(w, 4, 4, fold_bits=8)
    integers, scale = found.folded()
    assert np.abs(integers).max() <= 127
    whole = integers.astype(np.float32) * scale.astype(np.float32)[:, None]
    assert (whole == found.weights().astype(np.float32)).all()
    assert len(np.unique(found.shift)) > 2  # the law was not held by shifts of 0
    with pytest.raises(ValueError, match="do not fold"):
        search(w, 8, 8, fold_bits=8)


def test_without_outliers_it_is_symmetric_quantisation():
    w = skewed(16, 100)
    found = search(w, 4, keep=1)
    scale = fit_scale(w, Grid(4))
    plain = np.square(w - codes(w, scale, Grid(4)) * scale[:, None]).sum() / np.square(w).sum()
    assert not found.mask.any() and not found.sparse.any()
    assert error(w, found) == pytest.approx(plain, rel=0.02)


def test_zeros_and_one_row():
    assert not search(np.zeros((3, 50))).weights().any()
    one = np.array([[1.0, -1.0, 0.5, 40.0]])
    assert error(one, search(one, keep=0.75)) < 2e-4
