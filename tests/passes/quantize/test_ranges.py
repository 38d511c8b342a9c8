"""Ranges of activations: streams equal wholes, and each way finds what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.histogram import BINS, Histogram
from edgevlm.passes.quantize.ranges import RANGES, activation_scale

INT8 = Grid(8)


def seen(*batches):
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, np.float32))
    return histogram


def heavy(n=200_000, seed=0):
    """A bell with a few numbers ten times as far out."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    x[:20] = 40
    return x.astype(np.float32)


def error(x, scale, grid=INT8):
    q = np.clip(np.rint(x / scale), grid.low, grid.high)
    return float(np.square(x - q * scale).mean())


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_a_stream_is_the_whole_in_any_order(values, size, random):
    whole = seen(values)
    random.shuffle(values)
    parts = seen(*(values[i : i + size] for i in range(0, len(values), size)))
    assert (parts.counts == whole.counts).all() and parts.top == whole.top
    assert (parts.exponent, parts.zeros) == (whole.exponent, whole.zeros)
    for how in RANGES:
        assert activation_scale(parts, INT8, how) == activation_scale(whole, INT8, how)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40))
def test_every_number_is_in_its_bin(values):
    h = seen(values)
    size = np.abs(np.float32(values).astype(np.float64))
    size = size[size > 0]
    assert h.total == len(values) and h.counts.sum() == len(size)
    if len(size):
        places = np.minimum((size / h.width).astype(int), BINS - 1)
        assert (h.counts == np.bincount(places, minlength=BINS)).all()
        assert size.max() <= BINS * h.width and (
            size.max() >= BINS / 2 * h.width or size.max() < 1e-37
        )


@pytest.mark.parametrize("how", RANGES)
def test_no_range_is_beyond_what_came(how):
    x = heavy()
    scale = activation_scale(seen(x), INT8, how)
    assert 0 < scale * 127 <= np.abs(x).max() * (1 + 1e-6) and scale == np.float32(scale)


def test_max_and_percentile():
    x = np.linspace(-1, 3, 100_001)
    assert activation_scale(seen(x), INT8, "max") == pytest.approx(3 / 127, rel=1e-6)
    for share in (50, 90, 99.9):
        reach = 127 * activation_scale(seen(x), INT8, "percentile", share)
        assert reach == pytest.approx(np.percentile(np.abs(x), share), abs=3 / 1000)


@pytest.mark.parametrize("bits", [4, 8])
def test_mse_is_the_least_of_many(bits):
    x, grid = heavy(), Grid(bits)
    found = error(x, activation_scale(seen(x), grid, "mse"), grid)
    least = min(error(x, 40 * f / grid.high, grid) for f in np.linspace(0.01, 1, 300))
    assert found <= 1.02 * least


def test_entropy_gives_up_what_is_rare():
    """Twenty of 200,000 lie at 40: max spends its levels on them."""
    x = heavy()
    reach = 127 * activation_scale(seen(x), INT8, "entropy")
    assert 2.5 < reach < 12
    bulk = x[20:]
    assert error(bulk, reach / 127) < error(bulk, activation_scale(seen(x), INT8, "max")) / 4


@pytest.mark.parametrize("how", RANGES)
def test_constants_and_nothing(how):
    assert activation_scale(seen(np.zeros(5)), INT8, how) == 1
    scale = activation_scale(seen(np.full(100, -2.5)), INT8, how)
    assert scale * 127 == pytest.approx(2.5, rel=1e-6)
    assert activation_scale(seen([1e-44]), INT8, how) > 0
    for wrong, said in (
        (seen([1.0, np.nan]), "NaN"),
        (seen([np.inf]), "NaN"),
        (seen(), "no number"),
    ):
        with pytest.raises(ValueError, match=said):
            activation_scale(wrong, INT8, how)
