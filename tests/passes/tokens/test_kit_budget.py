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
KEEP = 6


def check(index, count, keep):
    assert index.dtype == np.int64 and index.shape == (keep,)
    assert index[0] >= 0 and index[-1] < count and (np.diff(index) > 0).all(), index


def refused(call, code="EV203"):
    with pytest.raises(UsageFault) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def least_of(method, at):
    return METHODS[method]().least(parse_site(at))


def every_input_is_met(placed, keep, hostile):
    for name, rows in hostile(N, placed.width).items():
        with np.errstate(over="ignore"):
            index = placed.choose(rows)
        assert index.shape == (keep,), name
        check(index, N, keep)


def test_t2_the_budget_is_met_whatever_the_features_are(method_at, place, hostile):
    every_input_is_met(place(*method_at, KEEP), KEEP, hostile)


def test_t2_so_are_the_smallest_and_the_largest(own_at, place, hostile):
    for keep in (least_of(*own_at), N - 1):
        every_input_is_met(place(*own_at, keep), keep, hostile)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_t2_any_features_at_all(own_at, place, data):
    placed = place(*own_at, KEEP)
    some = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38]) | st.floats(width=32)
    rows = data.draw(arrays(np.float32, (N, placed.width), elements=some))
    check(placed.choose(rows), N, KEEP)


@pytest.mark.parametrize(("grid", "keep"), [((1, 13), 3), ((2, 1), 1)], ids=str)
def test_t2_counts_that_are_no_multiple_of_anything(own_at, place, hostile, grid, keep):
    """A method that needs another grid says so: the shape is the model's, not the picture's."""
    count = grid[0] * grid[1]
    try:
        placed = place(*own_at, max(keep, least_of(*own_at)), grid=grid)
    except UsageFault as fault:
        assert fault.code in ("EV203", "EV230") and fault.fix, fault
        return
    for name in ("random", "constant", "nan somewhere"):
        index = placed.choose(hostile(count, placed.width)[name])
        check(index, count, max(keep, least_of(*own_at)))


def test_t2_the_smallest_budget_and_what_is_below_it(method_at, small):
    """The smallest is met above."""
    name, at = method_at
    least = least_of(name, at)
    KeepTokens(keep=least, method=name, at=at).requires(small())
    below = KeepTokens(keep=least - 1, method=name, at=at)
    if least == 1 and at.startswith("llm"):
        below.requires(small())
    else:
        assert str(least - 1) in refused(lambda: below(small())).what


@pytest.mark.parametrize("name", ["dart", "fastv"])
def test_t2_no_token_at_all_is_chosen_by_none(small, name):
    contract = KeepTokens(keep=0, method=name, at="llm:1")(small()).model.contract
    assert contract.tokens_at(1) == 0


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
