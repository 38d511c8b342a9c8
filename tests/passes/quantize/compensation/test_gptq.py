"""Compensated rounding against closed forms and brute force, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgevlm.passes.quantize.compensation import gptq as module
from edgevlm.passes.quantize.compensation.gptq import gptq
from edgevlm.passes.quantize.compensation.gram import Gram
from edgevlm.passes.quantize.grids import Grid, codes, fit_scale

AIMS = ["plain", "gptaq", "vlm-ptq", "full"]


def layer(n=16, m=48, tokens=400, seed=0, rank=None):
    """Weights, and inputs whose channels go together as those of a trained layer do."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(rank or m, m)) / np.sqrt(m)
    x = rng.normal(size=(tokens, rank or m)) @ mix * np.exp(rng.normal(size=m))
    return rng.normal(size=(n, m)), x


def gram_of(x, real=None, batches=1, **more):
    gram = Gram(x.shape[1])
    for part in np.array_split(np.arange(len(x)), batches):
        gram.add(x[part], None if real is None else real[part], **more)
    return gram


def loss(w, found, x, real=None):
    return float(np.square((x if real is None else real) @ w.T - x @ found.T).sum())


def nearest(w, bits, block=None):
    grid = Grid(bits)
    found = np.empty_like(w)
    for start in range(0, w.shape[1], block or w.shape[1]):
        part = w[:, start : start + (block or w.shape[1])]
        scale = fit_scale(part, grid)
        found[:, start : start + part.shape[1]] = codes(part, scale, grid) * scale[:, None]
    return found


@pytest.mark.parametrize("by_size", [False, True])
@pytest.mark.parametrize("block", [None, 16, 20])
@pytest.mark.parametrize("bits", [3, 4])
def test_it_errs_less_than_rounding_to_the_nearest(bits, block, by_size):
    ratios = []
    for seed in range(6):
        w, x = layer(seed=seed)
        made = gptq(w, gram_of(x), Grid(bits), block=block, by_size=by_size)
        ratios.append(loss(w, made.weights(), x) / loss(w, nearest(w, bits, block), x))
        assert made.scales.shape == (16, 1 if block is None else -(-48 // block))
        grid = Grid(bits)
        assert grid.low <= made.codes.min() and made.codes.max() <= grid.high
    assert max(ratios) < 1.05 and np.mean(ratios) < (0.5 if by_size else 0.9), ratios


def test_inputs_that_do_not_go_together_leave_nothing_to_make_up_for():
    w, _ = layer()
    x = np.eye(48) * 3
    made = gptq(w, gram_of(x), Grid(4))
    assert np.allclose(made.weights(), nearest(w, 4), atol=1e-12)


def test_two_columns_by_hand():
    """q1 = round(w1); w2 moves by (w1 - q1) h12 / h22, which is least squares."""
    w, x = np.array([[0.6, 0.3]]), np.array([[1.0, 0.9], [0.2, 0.8], [0.5, 0.1]])
    gram = gram_of(x)
    h = gram.damped(1e-9)
    made = gptq(w, gram, Grid(8), how="max", damping=1e-9).weights()[0]
    scale = 0.6 / 127
    first = np.rint(0.6 / scale) * scale
    second = 0.3 + (0.6 - first) * h[0, 1] / h[1, 1]
    assert made == pytest.approx([first, np.rint(second / scale) * scale], abs=1e-7)


def test_the_pull_of_a_column_is_the_best_continuous_value():
    """C_j: of the trailing columns, what w_j alone asks of column j where X~ is wanted."""
    _, x = layer(1, 6, 50)
    real = x + 0.1 * np.random.default_rng(1).normal(size=x.shape)
    gram = gram_of(x, real)
    lower, h = module._factor(gram, 0.0, np.arange(6))
    _, pull = module._towards_float(gram.d, lower, "vlm-ptq")
    for j in range(6):
        rest = slice(j, None)
        ask = (real - x)[:, j : j + 1]  # w_j = 1, the other weights 0
        exact = np.linalg.lstsq(x[:, rest], ask, rcond=None)[0][0, 0]
        assert pull[j] == pytest.approx(exact, abs=1e-9)
    inverse = np.linalg.inv(h)
    assert np.allclose(lower @ lower.T, inverse) and np.allclose(lower, np.tril(lower))


def test_the_whole_correction_is_least_squares():
    """full with a = 1 and fine codes: W X~ by the best W X."""
    w, x = layer(3, 8, 60)
    real = x + 0.2 * np.random.default_rng(2).normal(size=x.shape)
    made = gptq(w, gram_of(x, real), Grid(16), aim="full", shrink=1, damping=1e-9).weights()
    best = np.linalg.lstsq(x, real @ w.T, rcond=None)[0].T
    assert np.allclose(made, best, atol=2e-3)


@pytest.mark.parametrize("aim", AIMS[1:])
def test_aiming_at_the_float_model_errs_less_towards_it(aim):
    wins = 0
    for seed in range(8):
        w, x = layer(seed=seed, tokens=600)
        rng = np.random.default_rng(seed + 100)
        real = x @ (np.eye(48) + 0.05 * rng.normal(size=(48, 48)))  # a drift that is systematic
        gram = gram_of(x, real)
        plain, aimed = (gptq(w, gram, Grid(3), aim=a, shrink=0.5) for a in ("plain", aim))
        wins += loss(w, aimed.weights(), x, real) < loss(w, plain.weights(), x, real)
    assert wins >= 7


def test_no_drift_no_difference():
    w, x = layer()
    results = [gptq(w, gram_of(x, x.copy()), Grid(4), aim=aim).codes for aim in AIMS]
    assert all((r == results[0]).all() for r in results)


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("block", [None, 7, 16])
def test_lazy_is_eager(monkeypatch, aim, block):
    """Whatever stretch of columns is finished at once, the outcome is the same."""
    w, x = layer()
    real = x + 0.05 * np.random.default_rng(5).normal(size=x.shape)
    gram, results = gram_of(x, real), []
    for lazy in (16, 48, 1000):
        monkeypatch.setattr(module, "LAZY", lazy)
        results.append(gptq(w, gram, Grid(4), block=block, aim=aim).weights())
    for a, b in itertools.pairwise(results):
        assert np.allclose(a, b, atol=1e-9)


def test_streamed_sums_are_the_sums():
    _, x = layer()
    real, kinds = x * 1.01, np.array(["image", "text"])[np.arange(len(x)) % 3 // 2]
    whole, parts = Gram(48), Gram(48)
    whole.add(x, real, kinds)
    for part in np.array_split(np.arange(len(x)), 7):
        parts.add(x[part], real[part], kinds[part])
    assert np.allclose(whole.h, x.T @ x) and np.allclose(whole.d, (real - x).T @ x)
    for name in ("h", "d"):
        assert np.allclose(getattr(whole, name), getattr(parts, name))
    assert parts.counts == whole.counts == {"image": 267, "text": 133}
    image = np.square(x[kinds == "image"]).mean(0)
    assert np.allclose(parts.importance(1), image)
    text = np.square(x[kinds == "text"]).mean(0)
    assert np.allclose(parts.importance(0.25), 0.25 * image + 0.75 * text)
    assert np.allclose(parts.importance(), np.square(x).mean(0))
    assert np.allclose(gram_of(x).importance(0.5), np.square(x).mean(0))  # one kind: all alike


def test_what_matters_gets_the_finer_scale():
    w, _ = layer(seed=4)
    importance = np.ones(48)
    importance[:4] = 1e4
    w[:, 4:] *= 20
    with_it, without = (
        gptq(w, gram_of(np.eye(48)), Grid(4), importance=i).weights() for i in (importance, None)
    )
    first = slice(None), slice(0, 4)
    assert np.square((w - with_it)[first]).sum() < 0.2 * np.square((w - without)[first]).sum()


def test_poor_inputs():
    """Fewer tokens than channels, a channel of zeros, all zeros: damped, never broken."""
    w, x = layer(tokens=10)
    for inputs in (
        x,
        np.where(np.arange(48) == 3, 0, x),
        np.zeros((4, 48)),
        np.repeat(x[:1], 9, 0),
    ):
        made = gptq(w, gram_of(inputs), Grid(4))
        assert np.isfinite(made.weights()).all()
        assert loss(w, made.weights(), inputs) <= loss(w, nearest(w, 4), inputs) * 1.05 + 1e-12
    with pytest.raises(ValueError, match="NaN"):
        gram_of(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="48 are expected"):
        gram_of(x).add(np.zeros((2, 5)))
