"""Two clocks are laid over each other within the error that is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.devices.connect.clock import RESOLUTION_S, align, best

delays = st.floats(0, 2)


@given(
    offset=st.floats(-1e6, 1e6),
    legs=st.lists(st.tuples(delays, delays), min_size=1, max_size=9),
)
def test_the_offset_lies_within_its_error_whatever_the_ways_took(offset, legs):
    exchanges, now = [], 1e6
    for there_s, back_s in legs:
        read = now + there_s
        shown = int((read - offset) / RESOLUTION_S) * RESOLUTION_S  # /proc/uptime cuts off
        exchanges.append((now, shown, read + back_s))
        now += there_s + back_s + 0.1
    found = best(exchanges)
    if offset <= 1e6:  # a clock that shows time since its start is never below nought
        assert abs(found.offset_s - offset) <= found.error_s + 1e-6 + RESOLUTION_S * (read < offset)
        assert found.ours(shown) == pytest.approx(shown + found.offset_s)
    assert found.error_s <= min(a + b for a, b in legs) / 2 + RESOLUTION_S


def test_no_exchange_is_no_answer():
    with pytest.raises(ValueError):
        best([])


def test_this_machine_against_itself(here):
    """Both read the same clock."""
    found = align(here)
    assert abs(found.offset_s) <= found.error_s < 0.5


def test_a_device_without_such_a_clock_has_none(here, monkeypatch):
    plain = here.argv
    monkeypatch.setattr(here, "argv", lambda line: plain(line.replace("/proc/uptime", "/no/file")))
    assert align(here) is None


def test_a_device_that_does_not_answer_has_none(here, monkeypatch):
    monkeypatch.setattr(here, "argv", lambda line: ["sleep", "30"])
    monkeypatch.setattr("edgevlm.devices.connect.clock.WITHIN_S", 0.3)
    assert align(here) is None
