"""LIFT and PLACE against numpy written from the card, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="distillation needs: pip install 'edgevlm[torch]'")

from edgevlm.passes.derive.course import Course  # noqa: E402
from edgevlm.passes.derive.distil import lift, mse, place, relative_error, teach  # noqa: E402

RNG = np.random.default_rng(1)


def t64(array):
    return torch.tensor(np.asarray(array, np.float64))


def card(t, s):
    """L = coarse + w fine of one group; population moments."""
    slope = ((t - t.mean()) * (s - s.mean())).mean() / (s.var() + 1e-6)
    offset = t.mean() - slope * s.mean()
    coarse = abs(offset) + abs(slope - 1)
    return coarse + (1 - min(1, coarse)) * ((t - (offset + slope * s)) ** 2).sum()


def test_one_group_is_the_formula_of_the_card():
    for far in (0.02, 0.5, 3.0):  # with weight on the rest, with little, with none
        t = RNG.normal(size=(4, 6))
        s = t + far * RNG.normal(size=t.shape)
        assert float(lift(t64(t), t64(s))) == pytest.approx(card(t, s), rel=1e-9)


def test_groups_are_numbers_that_are_about_as_far_off():
    t = RNG.normal(size=64)
    s = t + RNG.normal(size=64) * 0.3
    order = np.argsort(np.abs(t - s), kind="stable")
    wanted = np.mean([card(t[g], s[g]) for g in order.reshape(4, 16)])
    assert float(place(t64(t), t64(s), 16)) == pytest.approx(wanted, rel=1e-9)


@given(st.integers(1, 70), st.integers(2, 20))
def test_no_number_is_left_out(count, group):
    """A student that is off in one place alone is told, wherever that is and whatever the rest."""
    t = np.linspace(-1, 1, count)
    for at in {0, count // 2, count - 1}:
        s = torch.tensor(t, requires_grad=True)
        moved = s + torch.nn.functional.one_hot(torch.tensor(at), count) * 0.5
        place(t64(t), moved, group).backward()
        assert torch.isfinite(s.grad).all() and (s.grad[at] != 0 or count == 1)


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 99))
def test_the_same_costs_nothing(count, group, seed):
    t = np.random.default_rng(seed).normal(size=count)
    small = 5 * group * 1e-6 / max(min_variance(t, group), 1e-6)  # what the guard of Var(S) costs
    assert 0 <= float(place(t64(t), t64(t), group)) < max(small, 1e-4) * 10


def min_variance(t, group):
    groups = max(1, len(t) // group)
    mine = np.arange(len(t)) * groups // len(t)
    return min(t[mine == g].var() for g in range(groups))


def test_a_scaled_and_moved_student_has_no_rest():
    t = RNG.normal(size=32)
    s = (t - 0.2) / 1.3  # T = 0.2 + 1.3 S
    assert float(lift(t64(t), t64(s))) == pytest.approx(0.2 + 0.3, abs=1e-5)


def test_a_student_that_says_the_same_of_everything():
    t = t64(RNG.normal(size=32))
    s = torch.full_like(t, 0.7).requires_grad_()
    found = lift(t, s)
    found.backward()  # slope 0: coarse is |mean| + 1, and nothing is left for the rest
    assert found.item() == pytest.approx(abs(float(t.mean())) + 1, abs=1e-9)
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() > 0


def test_no_gradient_goes_through_the_weight():
    t = RNG.normal(size=12)
    s = torch.tensor(t * 0.9 + 0.05 * RNG.normal(size=12), requires_grad=True)
    lift(t64(t), s).backward()

    def by_hand(x, w):
        slope = ((t - t.mean()) * (x - x.mean())).mean() / (x.var() + 1e-6)
        offset = t.mean() - slope * x.mean()
        return abs(offset) + abs(slope - 1) + w * ((t - (offset + slope * x)) ** 2).sum()

    x = s.detach().numpy()
    slope = ((t - t.mean()) * (x - x.mean())).mean() / (x.var() + 1e-6)
    w = 1 - min(1, abs(t.mean() - slope * x.mean()) + abs(slope - 1))
    steps = 1e-6 * np.eye(12)
    wanted = [(by_hand(x + d, w) - by_hand(x - d, w)) / 2e-6 for d in steps]
    assert 0.1 < w < 1
    np.testing.assert_allclose(s.grad.numpy(), wanted, rtol=1e-4, atol=1e-6)


def test_plain_errors():
    t, s = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    assert float(mse(t64(t), t64(s))) == pytest.approx(((t - s) ** 2).mean())
    wanted = ((t - s) ** 2).sum() / (t**2).sum()
    assert relative_error(t64(t), t64(s)) == pytest.approx(wanted)


def course(**more):
    return Course(**{"steps": 40, "batch": 2, "rate": 0.1, "seed": 0, "every": 5} | more)


def test_the_best_look_is_kept_and_not_the_last():
    weight = torch.nn.Parameter(torch.tensor([0.0]), False)
    # the loss pulls it up for ever; held-out pictures like it best at one
    found = teach([weight], lambda _: -weight.sum(), lambda: float((weight - 1).abs()), 4, course())
    assert found.after < 0.3 < found.before == 1.0 and 0 < found.step < 40
    assert abs(float(weight) - 1) == pytest.approx(found.after) and not weight.requires_grad


@pytest.mark.parametrize("worse", [lambda w: float(w.abs()), lambda w: float("nan")])
def test_weights_are_as_they_were_where_nothing_helps(worse):
    weight = torch.nn.Parameter(torch.tensor([0.0]), False)
    looks = iter([0.5])  # as it was
    found = teach(
        [weight],
        lambda _: -weight.sum(),
        lambda: next(looks, None) or worse(weight) + 9,
        4,
        course(),
    )
    assert found.step == 0 and found.after == found.before == 0.5 and float(weight) == 0
