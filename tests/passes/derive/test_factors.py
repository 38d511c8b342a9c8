"""A product of two matrices through fewer channels: the optimum, and what it loses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.derive.factors import factors, width_for


def pair(seed, q, m, n):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(q, m)), rng.normal(size=(q, n))


SIZES = {
    "seed": st.integers(0, 1000),
    "q": st.integers(1, 12),
    "m": st.integers(1, 20),
    "n": st.integers(1, 20),
}


@given(**SIZES, width=st.integers(1, 12))
def test_it_is_the_svd_of_the_whole_product(seed, q, m, n, width):
    """Against numpy's SVD of A^T B itself, which the QR never forms."""
    a, b = pair(seed, q, m, n)
    u, s, vt = np.linalg.svd(a.T @ b)
    less, more = factors(a, b).narrowed(width)
    found = (u[:, : len(s)][:, :width] * s[:width]) @ vt[: len(s)][:width]
    assert np.allclose(less.T @ more, found, atol=1e-9)


@given(**SIZES, width=st.integers(1, 12))
def test_what_is_lost_is_the_sum_of_the_dropped_squares(seed, q, m, n, width):
    a, b = pair(seed, q, m, n)
    found = factors(a, b)
    less, more = found.narrowed(width)
    lost = ((a.T @ b - less.T @ more) ** 2).sum()
    assert lost == pytest.approx((found.s[width:] ** 2).sum(), rel=1e-7, abs=1e-9)
    if width <= len(found.s):
        kept = 1 - lost / ((a.T @ b) ** 2).sum()
        assert found.energy[width - 1] == pytest.approx(kept, abs=1e-9)


@given(**SIZES)
def test_with_all_channels_it_is_the_same_product(seed, q, m, n):
    a, b = pair(seed, q, m, n)
    less, more = factors(a, b).narrowed(q)
    assert np.allclose(less.T @ more, a.T @ b, atol=1e-9)


def test_queries_that_share_a_head_are_one_product():
    """Three query heads on one head of keys: no other shared keys of that width do better."""
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(3, 8, 10)), rng.normal(size=(8, 10))
    wanted = [q.T @ keys for q in queries]
    side_by_side = factors(np.concatenate(queries, axis=1), keys)
    less, shared = side_by_side.narrowed(3)
    error = sum(((w - q.T @ shared) ** 2).sum()
                for w, q in zip(wanted, np.split(less, 3, axis=1), strict=True))  # fmt: skip
    assert error == pytest.approx((side_by_side.s[3:] ** 2).sum())
    for one in queries:  # the best for one head alone
        other = factors(one, keys).narrowed(3)[1]
        fitted = sum(((w - w @ np.linalg.pinv(other) @ other) ** 2).sum() for w in wanted)
        assert error <= fitted + 1e-9


def test_zeros_have_all_their_energy_at_once():
    found = factors(np.zeros((4, 6)), np.ones((4, 6)))
    assert (found.energy == 1).all() and found.narrowed(2)[0].shape == (2, 6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="finite"):
        factors(np.full((2, 3), value), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("share", "multiple", "width"),
    [(1.0, 8, 32), (0.5, 8, 16), (0.5, 1, 16), (0.53, 8, 16), (0.75, 8, 24), (0.01, 8, 8)],
)
def test_the_width_for_a_share_of_the_energy(share, multiple, width):
    """Of 32 channels of equal energy; rounded down to a multiple, never to none."""
    head = factors(np.eye(32), np.eye(32)).energy
    assert width_for([head, head], share, multiple) == width


def test_the_mean_over_heads_counts():
    heads = np.eye(8), np.diag([1.0] + [0] * 7)
    flat, steep = (factors(head, np.eye(8)).energy for head in heads)
    assert width_for([flat], 0.75, 1) == 6 and width_for([flat, steep], 0.75, 1) == 4


def test_all_of_the_energy_is_all_of_the_channels():
    """20 is no multiple of 8, and 16 would not be the same function."""
    head = factors(np.eye(20), np.eye(20)).energy
    assert width_for([head], 1.0, 8) == 20 and width_for([head], 0.95, 8) == 16


def test_a_head_narrower_than_the_multiple_stays():
    assert width_for([factors(np.eye(4), np.eye(4)).energy], 0.5, 8) == 4
