"""FP8 E4M3 as a grid, against the numbers of the format written out, and options that fit it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.quantize.grids import E4M3, Grid, codes, fit_scale, grid_of
from edgevlm.passes.quantize.histogram import Histogram
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.passes.quantize.ranges import activation_scale
from edgevlm.passes.quantize.rounding import round_rows
from edgevlm.passes.quantize.scheme import Scheme

#: of the definition: sign, 4 bits of exponent with bias 7, 3 of mantissa; the last code is NaN
POSITIVE = np.array(
    [m / 8 * 2.0**-6 for m in range(8)]
    + [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8)][:-1]
)
ALL = np.concatenate([-POSITIVE[::-1], POSITIVE])
INSIDE = st.floats(-448, 448, width=64)
ROWS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 12)),
    elements=st.floats(-8, 8, width=32),
)


def step(x):
    """Between the two numbers of the format around x."""
    return 2.0 ** (np.maximum(np.floor(np.log2(np.maximum(np.abs(x), 2.0**-9))), -6) - 3)


def test_the_format_ends_where_it_should():
    assert POSITIVE[-1] == E4M3.high == 448 and POSITIVE[1] == 2**-9 and len(POSITIVE) == 127
    assert grid_of("e4m3") == E4M3() and grid_of("int", 4) == Grid(4) and grid_of("int") == Grid(8)


def test_its_own_numbers_stay_as_they_are():
    np.testing.assert_array_equal(E4M3().nearest(ALL), ALL)


@given(INSIDE)
def test_a_number_errs_by_half_a_step_at_most_and_none_is_nearer(x):
    found = float(E4M3().nearest(np.array([x]))[0])
    assert found in ALL
    assert abs(found - x) == np.abs(ALL - x).min() <= step(x) / 2


def test_a_tie_goes_to_the_even_mantissa():
    middle = (POSITIVE[:-1] + POSITIVE[1:]) / 2
    even = np.where(np.arange(len(middle)) % 2, POSITIVE[1:], POSITIVE[:-1])
    np.testing.assert_array_equal(E4M3().nearest(middle), even)
    np.testing.assert_array_equal(E4M3().nearest(-middle), -even)


@pytest.mark.parametrize("x", [448.0001, 463.9, 464.0, 464.1, 480.0, 1e30, np.inf])
def test_what_lies_beyond_saturates_and_is_never_nan(x):
    np.testing.assert_array_equal(E4M3().nearest(np.array([x, -x])), [448, -448])


@settings(deadline=None)
@given(ROWS)
def test_max_clips_nothing(rows):
    scale = fit_scale(rows, E4M3(), "max")
    assert (scale > 0).all() and (scale == scale.astype(np.float32)).all()
    found = codes(rows, scale, E4M3())
    top = np.abs(rows).max(1) / scale
    np.testing.assert_allclose(top, np.where(top > 0, np.minimum(top, 448), 0), rtol=1e-6)
    real = rows / scale[:, None]
    assert (np.abs(found - real) <= step(real) / 2 * (1 + 1e-5)).all()


def test_a_row_of_zeros_and_next_to_nothing():
    rows = np.array([[0.0, 0.0], [1e-42, -1e-42], [3.0, -1.5]])
    made = round_rows(rows, Scheme(number="e4m3"))
    assert made.codes.dtype == E4M3.dtype and made.scales.shape == (3, 1)
    assert made.scales[0] == 1 and (made.scales > 0).all() and np.isfinite(made.weights()).all()
    np.testing.assert_array_equal(made.codes.astype(float)[[0, 2]], [[0, 0], [448, -224]])


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_mse_is_never_worse_than_max(seed):
    rows = np.random.default_rng(seed).standard_t(4, size=(3, 40))
    errors = [
        np.square(rows - round_rows(rows, Scheme(number="e4m3", method=how)).weights()).sum(1)
        for how in ("mse", "max")
    ]
    assert (errors[0] <= errors[1] * (1 + 1e-9)).all()


def test_ranges_reach_as_far_as_asked():
    seen = Histogram()
    seen.add(np.append(np.random.default_rng(0).normal(size=20000), 30.0))
    scale = {how: activation_scale(seen, E4M3(), how) for how in ("max", "percentile", "mse")}
    assert scale["max"] == np.float32(30 / 448)
    assert scale["percentile"] < scale["max"] / 5 and scale["mse"] <= scale["max"]


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (QuantizeWeights, {"bits": 4}, "8 bits"),
        (QuantizeWeights, {"block": 32}, "one scale a row"),
        (QuantizeWeights, {"method": "dasq", "bits": 4}, "no outliers apart"),
        (QuantizeWeights, {"average_bits": 5.0}, "no average_bits"),
        (QuantizeWeights, {"budget_ms": 5.0}, "no budget_ms"),
        (QuantizeWeights, {"layers": [{"match": "*", "bits": 4}]}, "8 bits"),
        (QuantizeActivations, {"range": "entropy"}, "equal steps"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(make, options, said):
    with pytest.raises(UsageFault) as caught:
        make(number="e4m3", **options)
    assert caught.value.code == "EV202" and said in caught.value.why
    make(**options)  # with integers they do
