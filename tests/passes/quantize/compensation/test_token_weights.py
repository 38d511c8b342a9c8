"""Integrated gradients of the rounding error: complete, normalised, the same as by differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.quantize.compensation.token_weights import attributions, token_weights


def case(seed, tokens=12, n=24, m=10):
    rng = np.random.default_rng(seed)
    return 0.1 * rng.normal(size=(n, m)), rng.normal(size=(tokens, m)) * rng.uniform(0.1, 3)


def loss(error, x):
    return np.abs(x @ error.T).mean(1)


@given(st.integers(0, 10**6))
def test_they_add_up_to_the_rise_of_the_error(seed):
    """From 0 exactly; from any other start within 2 %, of all tokens together, as the paper asks.

    Of one token as far as the midpoint rule goes: an output changes sign once, within one step.
    """
    e, x = case(seed)
    assert np.allclose(attributions(e, x, None).sum(1), loss(e, x))
    start = x + 0.3 * np.random.default_rng(seed + 1).normal(size=x.shape)
    gap = attributions(e, x, start).sum(1) - (loss(e, x) - loss(e, start))
    assert abs(gap.sum()) < 0.02 * loss(e, x).sum()
    assert (np.abs(gap) <= loss(e, x - start) / 32 + 1e-12).all()


def test_the_gradient_is_that_of_the_error():
    e, x = case(5, tokens=1)
    start = x * (1 - 1e-6)  # so short a way that every step has the gradient at x
    found = attributions(e, x, start)[0] / (x - start)[0]
    for i in range(x.shape[1]):
        step = np.zeros_like(x)
        step[0, i] = 1e-6
        assert found[i] == pytest.approx(
            float((loss(e, x + step) - loss(e, x - step))[0]) / 2e-6, rel=1e-3, abs=1e-6
        )


@given(st.integers(0, 10**6), st.booleans())
def test_weights_are_positive_sum_to_one_and_know_no_outlier(seed, started):
    e, x = case(seed)
    x[3] *= 1e4
    start = np.round(x) if started else None
    found = token_weights(e, x, start)
    assert found.sum() == pytest.approx(1) and (found >= 0).all() and (started or (found > 0).all())
    raw = np.abs(attributions(e, x, start)).mean(1)
    first, third = np.percentile(raw, [25, 75])
    reach = 1.5 * (third - first)
    inside = np.clip(raw, first - reach, third + reach)
    assert np.allclose(found, inside / inside.sum())


def test_nothing_errs():
    assert token_weights(np.zeros((3, 4)), np.ones((5, 4))).tolist() == [0.2] * 5
