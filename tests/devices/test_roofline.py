"""The time of a kernel: by hand, and the laws of a roofline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.devices.roofline import Rates, Used, kernel_time, worst

#: 1e12 float and 4e12 integer operations a second, 1e11 bytes a second, 5 us a launch
UNIT = Rates({"fp32": 1e12, "int8": 4e12}, bandwidth=1e11, launch=5e-6, width=4)


@pytest.mark.parametrize(
    ("macs", "dtype", "moved", "us", "bound"),
    [
        (10**8, "fp32", 10**6, 205, "compute"),
        (10**8, "int8", 10**6, 55, "compute"),
        (10**6, "fp32", 10**7, 105, "memory"),
        (0, "fp32", 10**7, 105, "memory"),
        (10**5, "fp32", 10**4, 5.2, "launch"),
    ],
)
def test_by_hand(macs, dtype, moved, us, bound):
    seconds, found = kernel_time(macs, dtype, moved, UNIT)
    assert seconds == pytest.approx(us / 1e6) and found == bound


def test_what_is_unknown_is_left_out_and_nothing_known_is_no_time():
    no_rate = Rates({"fp32": None}, bandwidth=1e11, launch=0, width=4)
    assert kernel_time(10**9, "fp32", 10**6, no_rate) == (pytest.approx(1e-5), "memory")
    no_bandwidth = Rates({"fp32": 1e12}, bandwidth=None, launch=0, width=4)
    assert kernel_time(10**9, "fp32", 10**6, no_bandwidth) == (pytest.approx(2e-3), "compute")
    assert kernel_time(0, "int8", 10**6, no_bandwidth) == (None, None)
    nothing = Rates({}, bandwidth=None, launch=1e-6, width=4)
    assert kernel_time(10**9, "fp32", 10**6, nothing) == (None, None)


counts = st.integers(0, 10**12)


@given(counts, counts, counts, st.sampled_from(["fp32", "int8"]))
def test_more_work_never_takes_less_time_and_two_kernels_never_less_than_one(a, b, moved, dtype):
    fewer, more = sorted((a, b))
    assert kernel_time(fewer, dtype, moved, UNIT)[0] <= kernel_time(more, dtype, moved, UNIT)[0]
    both, _ = kernel_time(a + b, dtype, moved, UNIT)
    apart = kernel_time(a, dtype, moved, UNIT)[0] + kernel_time(b, dtype, 0, UNIT)[0]
    assert both <= apart * (1 + 1e-12)


def test_a_prediction_is_as_sure_as_its_least_sure_fact():
    facts = [Used("x", 1.0, "GB/s", sure, "https://example.org") for sure in ("B", None, "C", "A")]
    assert worst(tuple(facts)) == "C" and worst(tuple(facts[:2])) == "B"
    assert worst(tuple(facts[1:2])) is None and worst(()) is None
