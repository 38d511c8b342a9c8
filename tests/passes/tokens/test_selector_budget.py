"""T2 where features alone decide: every K there is, other counts, and what stride keeps.

All methods and sites, at four budgets: test_kit_budget.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.passes.tokens.pieces.select import spread_index

RNG = np.random.default_rng(0)
N, D = 11, 5

SELECTORS = ("dart", "stride", "random", "divprune")
KINDS = ("random", "constant", "equal tokens", "zeros", "one token only", "duplicates",
         "all but equal", "opposites", "one direction", "nan somewhere", "nan everywhere",
         "inf somewhere", "inf and nan", "inf everywhere", "-inf everywhere", "inf in a row",
         "huge", "huge somewhere", "tiny", "subnormal")  # fmt: skip


def check(index, count, keep):
    assert index.dtype == np.int64 and index.shape == (keep,)
    assert index[0] >= 0 and index[-1] < count and (np.diff(index) > 0).all(), index


@pytest.mark.parametrize("features", KINDS)
@pytest.mark.parametrize("method", SELECTORS)
def test_every_budget_is_met(select, hostile, method, features):
    for keep in range(1, N + 1):
        check(select(method, hostile(N, D)[features], keep), N, keep)


@pytest.mark.parametrize("method", SELECTORS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16])
def test_every_budget_of_other_counts(select, method, count):
    for keep in range(1, count + 1):
        check(select(method, RNG.normal(size=(count, 3)), keep), count, keep)


@pytest.mark.parametrize("method", SELECTORS)
def test_keeping_all_keeps_all_in_order(select, hostile, method):
    for features in hostile(N, D).values():
        assert select(method, features, N).tolist() == list(range(N))


HOSTILE = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38]) | st.floats(width=32)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (N, D), elements=HOSTILE), st.integers(1, N))
def test_any_features_at_all(select, features, keep):
    check(select("dart", features, keep), N, keep)


@given(st.integers(1, 5000), st.data())
def test_stride_is_ascending_in_range_and_spread(count, data):
    keep = data.draw(st.integers(1, count))
    index = spread_index(count, keep)
    check(index, count, keep)
    exact = [(2 * i + 1) * count // (2 * keep) for i in range(keep)]  # card B2, in integers
    assert index.tolist() == exact
    gaps = np.diff(index)
    assert keep == 1 or gaps.max() - gaps.min() <= 1
    assert abs(int(index[0]) - (count - 1 - int(index[-1]))) <= 1  # as far from either end


def test_stride_of_the_usual_budgets():
    assert spread_index(8, 4).tolist() == [1, 3, 5, 7]
    assert spread_index(9, 3).tolist() == [1, 4, 7]
    assert spread_index(64, 1).tolist() == [32]
