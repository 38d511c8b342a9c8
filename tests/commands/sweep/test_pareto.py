"""The front against its definition, spelled out as two loops."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.commands.pareto import front

#: few values, so that ties are common
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30)


def beats(a: tuple, b: tuple) -> bool:
    """No dearer, no worse, and not the same."""
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_nothing_on_the_front_is_beaten_and_all_else_is(points):
    kept = front(points)
    for i, point in enumerate(points):
        assert any(beats(other, point) for other in points) != (i in kept)


@given(POINTS)
def test_it_rises_and_names_each_once(points):
    kept = front(points)
    assert len(set(kept)) == len(kept)
    along = [points[i] for i in kept]
    assert along == sorted(along) and all(a[1] <= b[1] for a, b in pairwise(along))


@given(POINTS.filter(bool))
def test_there_is_always_one(points):
    assert front(points)


def test_by_hand():
    assert front([(3, 9), (1, 5), (2, 5), (2, 7), (4, 8), (2, 7)]) == [1, 3, 5, 0]
    assert front([]) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_no_point(value):
    with pytest.raises(ValueError, match="not finite"):
        front([(1.0, 1.0), (value, 1.0)])
