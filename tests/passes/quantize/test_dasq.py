"""DASQ as its card has it: budget, ratios, the fold into int8 bit for bit, what it gains."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.quantize.dasq import decompose, largest_shift
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale


def skewed(n=24, m=200, seed=0, share=0.01):
    """A symmetric bulk and a few outliers on one side of each row."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, m)) * 0.02
    for row in w:
        where = rng.choice(m, max(1, round(share * m)), replace=False)
        row[where] += rng.choice([-1, 1]) * rng.uniform(0.08, 0.2, len(where))
    return w


def error(w, found):
    return float(np.square(w - found).sum() / np.square(w).sum())


def symmetric(w, bits):
    scale = fit_scale(w, Grid(bits))
    return codes(w, scale, Grid(bits)) * scale[:, None]


def asymmetric(w, bits):
    """The best of many ranges with a zero point, row by row, by trying."""
    best = np.full(len(w), np.inf)
    for a in np.linspace(0.4, 1, 31):
        for b in np.linspace(0.4, 1, 31):
            high, low = np.maximum(w.max(1) * a, 1e-9), np.minimum(w.min(1) * b, -1e-9)
            step = (high - low) / (2**bits - 1)
            zero = np.rint(-low / step)
            q = np.clip(np.rint(w / step[:, None]) + zero[:, None], 0, 2**bits - 1)
            loss = np.square(w - (q - zero[:, None]) * step[:, None]).sum(1)
            best = np.minimum(best, loss)
    return float(best.sum() / np.square(w).sum())


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("bits", [3, 4])
def test_it_beats_a_zero_point_on_skewed_weights(bits, by_row):
    w = skewed()
    found, _ = decompose(w, bits, by_row=by_row)
    assert error(w, found.weights()) < asymmetric(w, bits) < error(w, symmetric(w, bits))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(4, 60),
    st.sampled_from([(2, 4), (3, 4), (4, 4), (4, 8)]),
    st.sampled_from([0.9, 0.95, 0.98]),
    st.booleans(),
)
def test_what_it_promises(seed, n, m, bits, keep, by_row):
    w = skewed(n, m, seed)
    found, errors = decompose(w, *bits, keep, by_row=by_row)
    budget = n * int(np.ceil((1 - keep) * m - 1e-9)) if by_row else round((1 - keep) * n * m)
    assert found.mask.sum() == budget and not found.sparse[~found.mask].any()
    if by_row:
        assert (found.mask.sum(1) == budget // n).all()
    for part, grid in ((found.dense, Grid(bits[0])), (found.sparse, Grid(bits[1]))):
        assert grid.low <= part.min() and part.max() <= grid.high
    assert error(w, found.weights()) == pytest.approx(min(errors), rel=1e-9)
    assert error(w, found.weights()) <= error(w, symmetric(w, bits[0])) * 1.001
    scale, shift = found.scale[:, None], found.shift[:, None]
    assert found.shift.dtype == np.int64  # a ratio is a power of two, so this is exact
    assert (found.weights() == scale * found.dense + np.ldexp(scale, shift) * found.sparse).all()


def test_the_error_falls_but_for_the_power_of_two():
    w = skewed(40, 400, seed=3)
    _, free = decompose(w, 3, power_of_two=False, rounds=12, tolerance=0)
    assert all(b <= a * 1.02 for a, b in itertools.pairwise(free)) and free[-1] < free[0]
    _, powers = decompose(w, 3, rounds=12, tolerance=0)
    assert min(powers) < 1.1 * min(free)


def test_without_outliers_it_is_symmetric_quantisation():
    w = skewed()
    found, errors = decompose(w, 4, keep=1)
    assert (found.weights() == symmetric(w, 4)).all()
    assert not found.mask.any() and len(errors) == 1 and (found.shift == 0).all()
    integers, scale = found.folded()
    assert (integers == found.dense).all() and (scale == found.scale).all()
    assert found.ell()[0].shape == (len(w), 0)


@pytest.mark.parametrize("seed", range(3))
def test_folded_it_is_one_int8_tensor_bit_for_bit(seed):
    """Both branches and the fold agree in every accumulator, and in float32 weights."""
    w = skewed(32, 300, seed)
    found, _ = decompose(w, 4, 4, fold_bits=8)
    integers, scale = found.folded()
    assert np.abs(integers).max() <= 127 and (scale == scale.astype(np.float32)).all()
    x = np.random.default_rng(seed).integers(-127, 128, (300, 5))
    up, down = np.maximum(found.shift, 0)[:, None], -np.minimum(found.shift, 0)[:, None]
    dense, sparse = found.dense.astype(np.int64) @ x, found.sparse.astype(np.int64) @ x
    assert (integers.astype(np.int64) @ x == (dense << down) + (sparse << (up))).all()
    once = integers.astype(np.float32) * scale.astype(np.float32)[:, None]
    assert (once == found.weights().astype(np.float32)).all()
    assert error(w, found.weights()) < 1.05 * error(w, decompose(w, 4, 4)[0].weights())


def test_how_far_a_ratio_may_go():
    assert largest_shift(4, 4, 8) == 3 and largest_shift(3, 4, 8) == 3
    assert largest_shift(4, 4, 16) == 11
    with pytest.raises(ValueError, match="do not fold"):
        largest_shift(8, 8, 8)
    found, _ = decompose(skewed(share=0.03) * np.exp2(np.arange(24) % 7)[:, None], 4, fold_bits=8)
    assert np.abs(found.shift).max() <= 3


def test_the_static_table_is_the_sparse_part():
    w = skewed(16, 128)
    found, _ = decompose(w, 4, by_row=True)
    places, values = found.ell()
    assert places.shape == (16, int(np.ceil(0.02 * 128))) and places.shape == values.shape
    x = np.random.default_rng(0).integers(-127, 128, 128)
    gathered = (x[places] * values.astype(np.int64)).sum(1)
    assert (gathered == found.sparse.astype(np.int64) @ x).all()
    uneven, _ = decompose(w, 4)  # rows of several lengths are filled with zeros
    places, values = uneven.ell()
    assert (
        (x[places] * values.astype(np.int64)).sum(1) == uneven.sparse.astype(np.int64) @ x
    ).all()


def test_mirrored_rows_gain_little():
    """Nothing to mend in a uniform symmetric matrix: the gain is rounding's alone."""
    half = np.linspace(-1, 1, 101)
    w = np.stack([half, -half])
    gain, heavy = (
        error(x, symmetric(x, 4)) / error(x, decompose(x, 4)[0].weights()) for x in (w, skewed())
    )
    assert gain < 1.2 < 1.6 < heavy


def test_zeros_ties_and_one_row():
    nothing, errors = decompose(np.zeros((3, 50)), 4)
    assert not nothing.weights().any() and errors[0] == 0
    ties, _ = decompose(np.full((2, 100), 0.37), 4)
    assert ties.mask.sum() == 4
    one, _ = decompose(np.array([[1.0, -1.0, 0.5, 40.0]]), 4, keep=0.75)
    assert error(np.array([[1.0, -1.0, 0.5, 40.0]]), one.weights()) < 1e-2
