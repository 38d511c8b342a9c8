"""T2 and T3: exactly K, unique, ascending, in range - every method, every site, any features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.keep_tokens import KeepTokens
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.sites import parse_site

N = 20


def check(index, count, keep):
    assert index.dtype == np.int64 and index.shape == (keep,)
    assert index[0] >= 0 and index[-1] < count and (np.diff(index) > 0).all(), index


def refused(call, code="EV203"):
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def test_t2_every_budget_is_met_whatever_the_features_are(method_at, place, budgets, hostile):
    for keep in budgets(*method_at, N):
        placed = place(*method_at, keep)
        for name, rows in hostile(N, placed.width).items():
            with np.errstate(over="ignore"):
                index = placed.choose(rows)
            assert index.shape == (keep,), name
            check(index, N, keep)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_t2_any_features_at_all(method_at, place, data):
    least = METHODS[method_at[0]]().least(parse_site(method_at[1]))
    placed = place(*method_at, max(3, least))
    some = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38]) | st.floats(width=32)
    rows = data.draw(arrays(np.float32, (N, placed.width), elements=some))
    check(placed.choose(rows), N, max(3, least))


@pytest.mark.parametrize("grid", [(1, 13), (2, 1)], ids=str)
def test_t2_counts_that_are_no_multiple_of_anything(method_at, place, budgets, hostile, grid):
    """A method that needs another grid says so: the shape is the model's, not the picture's."""
    count = grid[0] * grid[1]
    for keep in budgets(*method_at, count):
        try:
            placed = place(*method_at, keep, grid=grid)
        except UsageFault as fault:
            assert fault.code in ("EV203", "EV230") and fault.fix, fault
            continue
        for name in ("random", "constant", "nan somewhere"):
            check(placed.choose(hostile(count, placed.width)[name]), count, keep)


def test_t2_the_smallest_budget_and_what_is_below_it(method_at, small, observed):
    name, at = method_at
    least = METHODS[name]().least(parse_site(at))
    step = KeepTokens(keep=least, method=name, at=at)
    step.calibration = observed(small()) if METHODS[name].calibrated else None
    assert step(small()).changed
    below = least - 1
    if below == 0 and at.startswith("llm"):  # no token at all: nothing is chosen then
        contract = KeepTokens(keep=0, method=name, at=at)(small()).model.contract
        assert contract.tokens_at(parse_site(at).depth) == 0
    else:
        fault = refused(lambda: KeepTokens(keep=below, method=name, at=at)(small()))
        assert str(below) in fault.what


def test_t3_keeping_all_changes_nothing(method_at, small):
    name, at = method_at
    result = KeepTokens(keep=N, method=name, at=at)(small())
    assert not result.changed and result.model is small()
    assert result.notes[0].kind == "skipped" and f"{N} of {N}" in result.notes[0].why


def test_more_than_there_are_is_refused_with_the_range(method_at, small):
    name, at = method_at
    for keep in (N + 1, 10**9, -1):
        fault = refused(lambda keep=keep: KeepTokens(keep=keep, method=name, at=at)(small()))
        assert str(keep) in fault.what and f"to {N}" in fault.why


def test_a_picture_of_one_token(method_at, small):
    name, at = method_at
    model = small((1, 1))
    result = KeepTokens(keep=1, method=name, at=at)(model)
    assert not result.changed and result.model is model
    refused(lambda: KeepTokens(keep=2, method=name, at=at)(model))
