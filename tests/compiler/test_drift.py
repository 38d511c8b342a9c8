"""The distance of two tensors: figures worked out by hand, and its own symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.compiler.drift import EXACT_DB, ON_EDGE, Drift, measure, measure_codes, worst

VALUES = st.floats(-(2.0**100), 2.0**100, width=32)
PAIRS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[arrays(np.float32, n, elements=VALUES)] * 2)
)


def db(reference, actual):
    return measure(np.array(reference), np.array(actual), "t").sqnr_db


def test_figures_worked_out_by_hand():
    drift = measure(np.array([3.0, 4.0]), np.array([3.0, 4.5]), "t")
    assert drift.sqnr_db == pytest.approx(20.0)  # 10 log10(25 / 0.25)
    assert drift.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))
    assert (drift.max_abs, drift.where, drift.overlap) == (0.5, "t", None)
    assert db([1.0, 0.0], [0.0, 1.0]) == pytest.approx(10 * math.log10(1 / 2))
    assert db([1.0], [-1.0]) == pytest.approx(-10 * math.log10(4))
    assert measure(np.array([2.0]), np.array([-1.0]), "t").cosine == -1


def test_no_difference_is_200_db_and_nothing_is_more():
    assert db([1.0, 2.0], [1.0, 2.0]) == EXACT_DB == 200
    assert db([0.0], [-0.0]) == EXACT_DB
    assert db([1.0], [1.0 + 2.3e-16]) == EXACT_DB
    assert db([1.0, 1e-320], [1.0, 0.0]) == EXACT_DB


def test_a_difference_from_nothing_has_no_ratio():
    drift = measure(np.zeros(3), np.array([0.0, 1e-3, 0.0]), "t")
    assert drift.sqnr_db == -math.inf and drift.cosine == 0
    assert drift.max_abs == pytest.approx(1e-3)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool, np.float16, np.float64])
def test_other_types_are_compared_as_numbers(dtype):
    a = np.array([1, 0, 1, 1]).astype(dtype)
    assert db(a, a) == EXACT_DB
    assert db(a, np.array([1, 0, 1, 0]).astype(dtype)) == pytest.approx(10 * math.log10(3))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_must_be_so_on_both_sides_in_the_same_place(odd):
    assert db([1.0, odd], [1.0, 2.0]) == -math.inf
    assert db([1.0, 2.0], [1.0, odd]) == -math.inf
    assert db([odd, 2.0], [2.0, odd]) == -math.inf
    assert db([1.0, odd], [1.0, -odd if math.isinf(odd) else math.inf]) == -math.inf
    assert db([1.0, odd], [1.0, odd]) == EXACT_DB
    assert db([odd, odd], [odd, odd]) == EXACT_DB
    assert db([3.0, 4.0, odd], [3.0, 4.5, odd]) == pytest.approx(20.0)


def test_another_shape_is_no_match_even_where_numpy_would_broadcast():
    assert db(np.ones((1, 4)), np.ones((4, 1))) == -math.inf
    assert db(np.ones(4), np.ones(1)) == -math.inf
    assert db(np.ones(4), np.ones(5)) == -math.inf


def test_nothing_to_compare_is_no_agreement():
    assert db([], []) == -math.inf


@given(arrays(np.float64, 3, elements=st.floats(1e-300, 1e300)))
def test_neither_huge_nor_tiny_numbers_overflow(a):
    drift = measure(a, a * 1.01, "t")
    assert drift.sqnr_db == pytest.approx(40, abs=1e-3)
    assert drift.cosine == pytest.approx(1)


@given(PAIRS)
def test_it_is_a_number_and_never_nan(pair):
    drift = measure(*pair, "t")
    assert not math.isnan(drift.sqnr_db) and drift.sqnr_db <= EXACT_DB
    assert -1.000001 <= drift.cosine <= 1.000001 and drift.max_abs >= 0
    assert (drift.max_abs == 0) == np.array_equal(*pair)


@given(PAIRS)
def test_cosine_and_largest_difference_are_symmetric(pair):
    a, b = measure(*pair, "t"), measure(*pair[::-1], "t")
    assert a.cosine == pytest.approx(b.cosine, abs=1e-12) and a.max_abs == b.max_abs


@given(PAIRS, st.sampled_from([-1.0, 2.0, -0.25, 1024.0]))
def test_a_common_factor_changes_no_ratio(pair, factor):
    plain, scaled = measure(*pair, "t"), measure(*(np.float64(x) * factor for x in pair), "t")
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-9)
    assert scaled.cosine == pytest.approx(plain.cosine, abs=1e-9)
    assert scaled.max_abs == pytest.approx(abs(factor) * plain.max_abs)


@given(PAIRS, st.randoms())
def test_the_order_of_elements_does_not_matter(pair, random):
    order = list(range(len(pair[0])))
    random.shuffle(order)
    plain, shuffled = measure(*pair, "t"), measure(*(x[order] for x in pair), "t")
    assert shuffled.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-6)


@given(arrays(np.float64, 4, elements=st.floats(0.1, 10)), st.floats(1e-6, 0.1))
def test_ten_times_the_error_costs_twenty_db(a, error):
    step = np.array([1, -1, 1, -1]) * error
    assert db(a, a + step) - db(a, a + 10 * step) == pytest.approx(20, abs=1e-3)


def test_the_worst_is_the_lowest_and_of_nothing_there_is_none():
    drifts = [Drift(x, 1, 0, str(x)) for x in (50.0, -math.inf, 20.0)]
    assert worst(drifts).sqnr_db == -math.inf and worst(drifts[::2]).where == "20.0"
    assert worst([]) is None


def test_json_has_no_infinity():
    assert measure(np.ones(1), np.array([np.nan]), "t").as_json() == {
        "sqnr_db": None, "cosine": 0.0, "max_abs": None, "tensor": "t", "token_overlap": None,
    }  # fmt: skip
    assert Drift(40.04, 0.99999951, 0.012345, "t", 1 / 3).as_json() == {
        "sqnr_db": 40.0, "cosine": 1.0, "max_abs": 0.0123, "tensor": "t", "token_overlap": 0.3333,
    }  # fmt: skip


CODES = np.random.default_rng(0).integers(-127, 128, 4000).astype(np.int8)


def apart(share, steps):
    """The same codes, a share of them so many steps off."""
    other = CODES.copy()
    count = round(share * len(CODES))
    other[:count] = np.where(CODES[:count] > 0, CODES[:count] - steps, CODES[:count] + steps)
    return other


def test_single_steps_of_codes_are_no_drift_while_they_are_few():
    found = measure_codes(CODES, apart(ON_EDGE, 1), "key_0")
    assert (found.sqnr_db, found.max_abs, found.where) == (EXACT_DB, 1.0, "key_0")
    many = measure_codes(CODES, apart(ON_EDGE + 0.01, 1), "key_0")
    assert many == measure(CODES, apart(ON_EDGE + 0.01, 1), "key_0") and many.sqnr_db < 50


def test_rounding_down_in_place_of_to_nearest_is_seen():
    numbers = np.random.default_rng(1).normal(size=9000) * 40
    down, near = (f(numbers).clip(-127, 127).astype(np.int8) for f in (np.floor, np.rint))
    assert measure_codes(near, down, "t").sqnr_db < 40
    moved = (near - (numbers > 100)).astype(np.int8)  # a few per cent, on the edge
    assert measure_codes(near, moved, "t").sqnr_db == EXACT_DB


def test_of_larger_differences_one_step_is_forgiven():
    for steps in (2, 3, 40):
        found = measure_codes(CODES, apart(0.01, steps), "t")
        assert found.sqnr_db == measure(CODES, apart(0.01, steps - 1), "t").sqnr_db < 60
        assert found.max_abs == steps


def test_codes_of_another_shape_or_none_are_told_as_such():
    assert measure_codes(CODES, CODES[:-1], "t").sqnr_db == -math.inf
    assert measure_codes(CODES[:0], CODES[:0], "t").sqnr_db == -math.inf
    extreme = np.array([-128, 127], np.int8)
    assert measure_codes(extreme, extreme[::-1], "t").sqnr_db < 0  # 255 steps, not -1
