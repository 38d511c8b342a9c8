"""Masks of hidden units: gradients as the card has them, and the best look kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="masks need: pip install 'edgevlm[torch]'")

from edgevlm.passes.derive.masks import Mask, Plan, train_masks  # noqa: E402


def plan(**more):
    known = {"steps": 60, "batch": 4, "rate": 0.05, "beta_rate": 0.1, "decay": 0.05, "seed": 0}
    return Plan(**known | {"every": 5} | more)


@given(st.integers(1, 40), st.floats(-8, 8), st.integers(0, 99))
def test_the_largest_scores_stay(units, beta, seed):
    """k = ceil(sigmoid(beta) e), and one at least."""
    mask = Mask(units)
    scores = np.random.default_rng(seed).permutation(units).astype(np.float32)
    mask.scores.data, mask.beta.data = torch.from_numpy(scores), torch.tensor(beta)
    k = max(1, math.ceil(torch.sigmoid(mask.beta).item() * units))
    assert np.array_equal(mask().detach().numpy(), (scores >= units - k).astype(np.float32))


def test_gradients_pass_the_choice_straight():
    """With G = dL/dmask: dL/dM = G, dL/dbeta = <mask, G>, without a factor of the sigmoid."""
    mask, g = Mask(8), torch.randn(8, generator=torch.Generator().manual_seed(0))
    mask.scores.data, mask.beta.data = torch.arange(8.0), torch.tensor(0.1)
    binary = mask()
    (binary * g).sum().backward()
    assert binary.detach().tolist() == [0, 0, 0] + [1] * 5  # ceil(0.525 x 8)
    assert torch.equal(mask.scores.grad, g)
    assert mask.beta.grad.item() == pytest.approx(g[3:].sum().item())


def test_units_that_add_noise_alone_go_first():
    """Units 0-3 carry the answer; 4-11 add what has nothing to do with it."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 4))
    hidden = np.concatenate([truth, rng.normal(size=(200, 8))], axis=1).astype(np.float32)
    x, y = torch.from_numpy(hidden), torch.from_numpy(truth.sum(1).astype(np.float32))

    def far(masks, some):
        return ((x[some] * masks[0]).sum(1) - y[some]).square().mean()

    found = train_masks(
        [12], far, lambda m: float(far(m, np.arange(150, 200))), 150, plan(steps=400, rate=0.02)
    )
    (kept,) = found.kept
    assert set(range(4)) <= set(kept.tolist()) and len(kept) <= 6
    assert found.after < 0.3 * found.before


def test_a_mask_that_only_harms_is_not_kept():
    def loss(masks, _):
        return masks[0].sum()  # wants all of them gone

    found = train_masks([6], loss, lambda m: float((1 - m[0]).sum()), 4, plan())
    assert found.step == 0 and found.kept[0].tolist() == list(range(6))
    assert found.after == found.before == 0


def test_of_equals_that_with_the_fewest_units():
    found = train_masks([16], lambda m, _: m[0].sum(), lambda _: 1.0, 4, plan(steps=100))
    assert found.before == found.after == 1.0 and len(found.kept[0]) < 16


def test_the_same_seed_gives_the_same_masks():
    x = torch.randn(30, 10, generator=torch.Generator().manual_seed(1))

    def loss(masks, some):
        return (x[some] * masks[0]).sum(1).square().mean()

    def run(seed):
        held = lambda m: float(loss(m, np.arange(30)))  # noqa: E731
        return train_masks([10], loss, held, 30, plan(seed=seed, steps=80))

    assert all(np.array_equal(a, b) for a, b in zip(run(1).kept, run(1).kept, strict=True))
