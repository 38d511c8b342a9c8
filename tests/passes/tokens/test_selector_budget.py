"""T2: exactly K, unique, ascending, in range - for every K, and whatever the features are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.passes.tokens.selectors import SELECTORS, stride_index

RNG = np.random.default_rng(0)
N, D = 11, 5
PLAIN = RNG.normal(size=(N, D))


def with_value(value, rows):
    made = PLAIN.copy()
    made[rows, 1] = value
    return made


FEATURES = {
    "random": PLAIN,
    "constant": np.full((N, D), 3.5),
    "equal tokens": np.tile(PLAIN[0], (N, 1)),
    "zeros": np.zeros((N, D)),
    "one token only": np.eye(N, D) * 7,
    "duplicates": np.repeat(PLAIN[:4], 3, axis=0)[:N],
    "all but equal": PLAIN[0] + 1e-7 * PLAIN,
    "opposites": np.concatenate([PLAIN[:6], -PLAIN[:5]]),
    "one direction": np.outer(np.arange(1, N + 1), PLAIN[0]),
    "nan somewhere": with_value(np.nan, [3, 7]),
    "nan everywhere": np.full((N, D), np.nan),
    "inf somewhere": with_value(np.inf, [3, 7]),
    "inf and -inf": with_value(np.array([np.inf, -np.inf, np.nan]), [2, 5, 9]),
    "inf everywhere": np.full((N, D), np.inf),
    "-inf everywhere": np.full((N, D), -np.inf),
    "inf in a row": np.where(np.arange(N)[:, None] == 4, np.inf, PLAIN),
    "huge": PLAIN * 1e38,
    "huge somewhere": with_value(3e38, [0, 1, 2, 3, 4, 5]),
    "tiny": PLAIN * 1e-38,
    "subnormal": PLAIN * 1e-42,
}


def check(index, count, keep):
    assert index.dtype == np.int64 and index.shape == (keep,)
    assert index[0] >= 0 and index[-1] < count and (np.diff(index) > 0).all(), index


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("method", SELECTORS)
def test_every_budget_is_met(select, method, features):
    for keep in range(1, N + 1):
        check(select(method, FEATURES[features], keep), N, keep)


@pytest.mark.parametrize("method", SELECTORS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16])
def test_every_budget_of_other_counts(select, method, count):
    for keep in range(1, count + 1):
        check(select(method, RNG.normal(size=(count, 3)), keep), count, keep)


@pytest.mark.parametrize("method", SELECTORS)
def test_keeping_all_keeps_all_in_order(select, method):
    for features in FEATURES.values():
        assert select(method, features, N).tolist() == list(range(N))


HOSTILE = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38]) | st.floats(width=32)


@settings(max_examples=150, deadline=None)
@given(arrays(np.float32, (N, D), elements=HOSTILE), st.integers(1, N))
def test_any_features_at_all(select, features, keep):
    check(select("dart", features, keep), N, keep)


@given(st.integers(1, 5000), st.data())
def test_stride_is_ascending_in_range_and_spread(count, data):
    keep = data.draw(st.integers(1, count))
    index = stride_index(count, keep)
    check(index, count, keep)
    exact = [(2 * i + 1) * count // (2 * keep) for i in range(keep)]  # card B2, in integers
    assert index.tolist() == exact
    gaps = np.diff(index)
    assert keep == 1 or gaps.max() - gaps.min() <= 1
    assert abs(int(index[0]) - (count - 1 - int(index[-1]))) <= 1  # as far from either end


def test_stride_of_the_usual_budgets():
    assert stride_index(8, 4).tolist() == [1, 3, 5, 7]
    assert stride_index(9, 3).tolist() == [1, 4, 7]
    assert stride_index(64, 1).tolist() == [32]
