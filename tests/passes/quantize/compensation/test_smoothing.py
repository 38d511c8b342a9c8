"""Smoothing moves where the rounding falls, and nothing else; the low-rank part is the best."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes.quantize.compensation.smoothing import awq_scale, low_rank, smooth_scale
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale


def layer(n=24, m=32, tokens=200, seed=0):
    """A few channels of the inputs are thirty times the others, as in language models."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tokens, m))
    x[:, rng.choice(m, 3, replace=False)] *= 30
    return rng.normal(size=(n, m)), x


def rounded(w, bits=4):
    scale = fit_scale(w, Grid(bits), "max")
    return codes(w, scale, Grid(bits)) * scale[:, None]


def by_tensor(x, bits=8):
    scale = np.full(1, np.abs(x).max() / Grid(bits).high)
    return codes(x.reshape(1, -1), scale, Grid(bits)).reshape(x.shape) * scale[0]


def test_the_product_is_the_same():
    w, x = layer()
    s = smooth_scale(np.abs(x).max(0), np.abs(w).max(0))
    assert np.allclose((x / s) @ (w * s).T, x @ w.T)
    assert np.allclose(np.abs(x / s).max(0), np.abs(w * s).max(0))  # alpha 0.5 meets in the middle


def test_alpha_says_whose_burden_it_is():
    w, x = layer()
    tops = np.abs(x).max(0), np.abs(w).max(0)
    assert np.allclose(np.abs(x / smooth_scale(*tops, 1.0)).max(0), 1)
    assert np.allclose(np.abs(w * smooth_scale(*tops, 0.0)).max(0), 1)


def test_eight_bit_activations_gain_from_it():
    w, x = layer()
    s = smooth_scale(np.abs(x).max(0), np.abs(w).max(0))
    wanted = x @ w.T
    plain = np.square(by_tensor(x) @ rounded(w, 8).T - wanted).sum()
    smooth = np.square(by_tensor(x / s) @ rounded(w * s, 8).T - wanted).sum()
    assert smooth < 0.3 * plain


def test_zero_channels_are_left_alone():
    s = smooth_scale(np.array([0.0, 2.0, 3.0]), np.array([1.0, 0.0, 3.0]))
    assert s.tolist() == [1, 1, 1] and np.isfinite(s).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_search_is_never_worse_than_leaving_it(seed):
    w, x = layer(seed=seed)
    s, error = awq_scale(w, x, rounded)
    plain = np.abs(x @ rounded(w).T - x @ w.T).mean(1).sum()
    assert error <= plain and error == pytest.approx(
        np.abs((x / s) @ rounded(w * s).T - x @ w.T).mean(1).sum()
    )
    assert error < 0.9 * plain  # and gains where channels differ that much


def test_weights_of_tokens():
    """All alike is AWQ; a huge register token that counts for nothing changes nothing."""
    w, x = layer()
    assert (awq_scale(w, x, rounded)[0] == awq_scale(w, x, rounded, np.ones(len(x)))[0]).all()
    planted = np.concatenate([x, np.eye(1, x.shape[1], 5) * 1e4])
    weight = np.append(np.ones(len(x)), 0)
    assert np.allclose(awq_scale(w, planted, rounded, weight)[0], awq_scale(w, x, rounded)[0])
    assert not np.allclose(awq_scale(w, planted, rounded)[0], awq_scale(w, x, rounded)[0])


def test_activations_may_be_quantised_in_the_search():
    w, x = layer()
    s, error = awq_scale(w, x, lambda v: rounded(v, 8), quantised=by_tensor)
    assert (s > 1).any() and error < np.abs(by_tensor(x) @ rounded(w, 8).T - x @ w.T).mean(1).sum()


def test_low_rank_reaches_the_bound():
    """The error is exactly what the smaller singular values of the whitened gap hold."""
    w, x = layer(tokens=400)
    gap = w - rounded(w, 3)
    whitened = np.linalg.svd(gap @ np.linalg.cholesky(x.T @ x), compute_uv=False)
    for rank in (1, 4, 16):
        a, b = low_rank(gap, x, rank)
        assert a.shape == (24, rank) and b.shape == (rank, 32)
        left = np.square(x @ (gap - a @ b).T).sum()
        assert left == pytest.approx(np.square(whitened[rank:]).sum(), rel=1e-6)
        u, s, vt = np.linalg.svd(gap)
        plain = (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert left < np.square(x @ (gap - plain).T).sum()
    a, b = low_rank(gap, x, 24)
    assert np.allclose(a @ b, gap, atol=1e-6)


def test_one_set_of_weights_serves_two_kinds_of_tokens():
    """MASQuant: text as it is, tokens of the picture by the patch; full rank is exact."""
    w, text = layer(seed=1)
    _, image = layer(seed=2)
    for_text, for_image = (smooth_scale(np.abs(x).max(0), np.abs(w).max(0)) for x in (text, image))
    stored = rounded(w * for_text)
    seen = image / for_image
    a, b = low_rank(w * for_image - stored, seen, 24)
    assert np.allclose(seen @ (stored + a @ b).T, image @ w.T)
    errors = []
    for rank in (0, 4, 12):
        a, b = low_rank(w * for_image - stored, seen, rank)
        errors.append(np.square(seen @ (stored + a @ b).T - image @ w.T).sum())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_channels_that_never_vary_do_not_blow_up():
    w, x = layer()
    x[:, :5] = 0
    a, b = low_rank(w, x, 8)
    assert np.isfinite(a).all() and np.isfinite(b).all() and np.abs(b).max() < 1e4
