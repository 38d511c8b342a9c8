"""The fold of two projections, against the product it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.tokens.pieces.lowrank import folded, truncated
from edgevlm.passes.tokens.projections import Projection


def projection(rng, wide, columns, bias=True):
    weight = rng.normal(size=(wide, columns)).astype(np.float32)
    shift = rng.normal(size=columns) if bias else np.zeros(columns)
    return Projection(weight, shift.astype(np.float32))


@given(seed=st.integers(0, 99), wide=st.integers(1, 9), columns=st.integers(1, 9))
def test_at_whole_rank_the_fold_is_the_product(seed, wide, columns):
    rng = np.random.default_rng(seed)
    q, k = projection(rng, wide, columns), projection(rng, wide, columns)
    left, right = folded(q, k, 100)
    x = rng.normal(size=(5, wide))
    rows = np.concatenate([x, np.ones((5, 1))], 1)
    want = (x @ q.weight + q.bias) @ (x @ k.weight + k.bias).T
    np.testing.assert_allclose((rows @ left) @ (rows @ right).T, want, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_truncation_is_the_nearest_of_its_rank(rank):
    """Eckart-Young: what is left out is the tail of the singular values, no more."""
    weight = np.random.default_rng(0).normal(size=(8, 6))
    v, u = truncated(weight, rank)
    assert v.shape == (8, rank) and u.shape == (6, rank)
    tail = np.linalg.svd(weight, compute_uv=False)[rank:]
    np.testing.assert_allclose(np.linalg.norm(weight - v @ u.T), np.linalg.norm(tail), atol=1e-12)


def test_singular_values_are_shared_evenly():
    v, u = truncated(np.random.default_rng(1).normal(size=(7, 7)), 7)
    np.testing.assert_allclose(np.linalg.norm(v, axis=0), np.linalg.norm(u, axis=0))
