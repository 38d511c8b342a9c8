"""Tables of numbers for weights: exact where they can be, and never worse than even steps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.quantize.grids import Grid, codes, fit_scale
from edgevlm.passes.quantize.palette import group_of, palettise

DRAWN = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy": lambda rng, shape: rng.standard_t(2, size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 0.2,
    "even": lambda rng, shape: rng.uniform(-1, 1, size=shape),
}


def error(rows, made):
    return float(np.square(rows - made).sum())


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20), kind=st.sampled_from(sorted(DRAWN)), bits=st.sampled_from([2, 3, 4])
)
def test_never_worse_than_the_best_even_steps(seed, kind, bits):
    """A group of rows with one table, against integers with one scale of least square error."""
    rows = DRAWN[kind](np.random.default_rng(seed), (8, 40)).astype(np.float32)
    grid, flat = Grid(bits), rows.reshape(1, -1).astype(np.float64)
    scale = fit_scale(flat, grid)
    even = codes(flat, scale, grid) * scale[:, None]
    found = palettise(rows, bits, 0)
    assert found.tables.shape == (1, 2**bits)
    assert error(flat.reshape(rows.shape), found.weights()) <= error(flat, even) * (1 + 1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), bits=st.sampled_from([2, 4, 6]))
def test_again_it_changes_nothing(seed, bits):
    rows = np.random.default_rng(seed).normal(size=(32, 24)).astype(np.float32)
    once = palettise(rows, bits, 16)
    again = palettise(once.weights().astype(np.float32), bits, 16)
    np.testing.assert_array_equal(again.weights(), once.weights())


@pytest.mark.parametrize("count", [1, 2, 15, 16])
def test_as_many_numbers_as_places_are_kept_exactly(count):
    rng = np.random.default_rng(count)
    numbers = rng.normal(size=count).astype(np.float32)
    rows = rng.choice(numbers, size=(48, 10))
    found = palettise(rows, 4, 16)
    np.testing.assert_array_equal(found.weights(), rows)
    assert found.tables.shape == (3, 16) and found.indices.max() < 16


def test_it_is_the_best_there_is_where_all_can_be_tried():
    """Cuts of sorted numbers into four runs, every way; Lloyd's steps may end in a near one."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        numbers = np.sort(rng.normal(size=9))
        best = min(
            sum(np.square(run - run.mean()).sum() for run in np.split(numbers, cuts))
            for cuts in itertools.combinations(range(1, 9), 3)
        )
        found = error(numbers[None], palettise(numbers[None], 2, 0).weights())
        assert best * (1 - 1e-6) <= found <= 2 * best


def test_every_number_has_the_nearest_of_its_table():
    rows = np.random.default_rng(5).normal(size=(32, 20)).astype(np.float32)
    found = palettise(rows, 3, 16)
    for group in range(2):
        mine, table = rows[16 * group : 16 * group + 16], found.tables[group]
        assert (np.diff(table) >= 0).all()
        least = np.abs(mine[..., None] - table).min(-1)
        own = np.abs(mine - table[found.indices[16 * group : 16 * group + 16]])
        np.testing.assert_allclose(own, least, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "least", "group"),
    [(64, 16, 16), (96, 16, 16), (100, 16, 20), (97, 16, 97), (8, 16, 8), (64, 0, 64), (6, 1, 1)],
)
def test_groups_are_whole(channels, least, group):
    assert group_of(channels, least) == group
