"""Symmetric grids: what a scale promises, and that the search finds what trying all would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgevlm.passes.quantize.grids import Grid, blocks_of, codes, fit_scale, rows_of_blocks

ROWS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 12)),
    elements=st.floats(-8, 8, width=32),
)


def loss(rows, scale, grid, weight=1.0):
    error = rows - codes(rows, scale, grid) * scale[:, None]
    return (np.square(error) * weight).sum(1)


@pytest.mark.parametrize(("bits", "low", "high"), [(2, -2, 1), (4, -8, 7), (8, -127, 127)])
def test_integers_of_a_grid(bits, low, high):
    assert (Grid(bits).low, Grid(bits).high) == (low, high)


@settings(deadline=None)
@given(ROWS, st.sampled_from([3, 4, 8]))
def test_max_clips_nothing_and_errs_by_half_a_step(rows, bits):
    scale = fit_scale(rows, Grid(bits), "max")
    error = np.abs(rows - codes(rows, scale, Grid(bits)) * scale[:, None])
    assert (error <= scale[:, None] / 2 * (1 + 1e-6)).all()
    assert (scale == scale.astype(np.float32)).all()  # a graph holds it exactly


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([3, 4, 8]), st.integers(30, 200), st.integers(1, 6))
def test_mse_is_the_best_of_many(seed, bits, m, tail):
    """Bells and heavier tails: Student's t with `tail` degrees of freedom."""
    rows = np.random.default_rng(seed).standard_t(tail + 2, size=(3, m))
    grid, top = Grid(bits), np.abs(rows).max(1)
    found = loss(rows, fit_scale(rows, grid), grid)
    assert (found <= loss(rows, fit_scale(rows, grid, "max"), grid) * (1 + 1e-9)).all()
    reaches = np.linspace(0.05, 1, 2000) / grid.high
    least = np.min([loss(rows, top * r, grid) for r in reaches], axis=0)
    assert bits == 8 or found.sum() <= 1.1 * least.sum()  # at 8 bits 30 numbers are lumpy


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(0, 2**32 - 1))
def test_a_known_scale_is_never_made_worse(rows, seed):
    near = np.random.default_rng(seed).uniform(0.05, 2, len(rows)).astype(np.float32)
    near = near.astype(np.float64)
    found = fit_scale(rows, Grid(4), near=near)
    assert (loss(rows, found, Grid(4)) <= loss(rows, near, Grid(4))).all()


def test_weights_decide_what_is_exact():
    """Where the small numbers count for more, the large one is clipped; one of weight 0 is not."""
    rows = np.array([[0.1, -0.2, 0.3, 1.5]])
    alike, small, none = (
        fit_scale(rows, Grid(4), weight=np.array([1, 1, 1, last]))[0] for last in (1, 1e-4, 0)
    )
    assert none < small < alike and rows[0, :3] / none == pytest.approx(np.rint(rows[0, :3] / none))


def test_nothing_to_scale_and_next_to_nothing():
    rows = np.array([[0.0, 0.0], [1e-42, -1e-42], [3.0, 3.0]])
    for how in ("max", "mse"):
        scale = fit_scale(rows, Grid(4), how)
        assert scale[0] == 1 and scale[1] >= np.finfo(np.float32).tiny and np.isfinite(scale).all()
    assert fit_scale(np.zeros((0, 3)), Grid(4)).shape == (0,)


def test_a_large_matrix_is_searched_in_chunks(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 8))
    whole = fit_scale(rows, Grid(4))
    monkeypatch.setattr("edgevlm.passes.quantize.grids.CHUNK", 24)
    assert (fit_scale(rows, Grid(4)) == whole).all()


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 8))
def test_blocks_and_back(n, m, block):
    rows = np.arange(n * m, dtype=np.float32).reshape(n, m) + 1
    blocks = blocks_of(rows, block)
    assert blocks.shape[1] == block and (rows_of_blocks(blocks, n, m) == rows).all()
    assert np.count_nonzero(blocks) == n * m
