"""Things in order, together as far as they fit."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.groups import groups_within


@given(st.lists(st.integers(0, 20)), st.integers(0, 30))
def test_all_in_order_and_as_many_together_as_fit(sizes, most):
    found = list(groups_within(most, iter(sizes), lambda size: size))
    assert [size for group in found for size in group] == sizes and all(found)
    for group, behind in pairwise(found):
        assert sum(group) + behind[0] > most
    assert all(sum(group) <= most or len(group) == 1 for group in found)
