"""What every choice is held against while it runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.promise import check_choice


@given(st.sets(st.integers(0, 40)))
def test_ascending_places_below_the_count_are_returned_as_they_are(places):
    index = np.array(sorted(places), np.int64)
    assert check_choice("here", index, len(index), 41) is index


@pytest.mark.parametrize(
    ("index", "kept", "count"),
    [
        ([0, 1], 3, 9),
        ([0, 1, 2, 3], 3, 9),
        ([], 1, 9),
        ([0, 2, 2], 3, 9),
        ([0, 2, 1], 3, 9),
        ([-1, 0, 1], 3, 9),
        ([0, 1, 9], 3, 9),
        ([2, 1, 0], 3, 9),
        ([-(2**62), 0, 1], 3, 9),
        ([0, 1, 2**62], 3, 9),
    ],
)
def test_anything_else_stops_with_the_part_and_the_places(index, kept, count):
    with pytest.raises(JobFault) as caught:
        check_choice("decoder layer 7", np.array(index, np.int64), kept, count)
    fault = caught.value
    assert fault.code == "EV208" and "decoder layer 7" in fault.what
    assert str(index) in fault.what and f"{kept} ascending places below {count}" in fault.why


def test_a_long_choice_is_told_in_part():
    with pytest.raises(JobFault) as caught:
        check_choice("here", np.zeros(5000, np.int64), 5000, 6000)
    assert len(caught.value.what) < 200
