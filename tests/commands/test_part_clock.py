"""Turns of timed runs, on a clock that is moved by the runs themselves."""

from __future__ import annotations

import pytest

from edgevlm.commands import part_clock
from edgevlm.commands.part_clock import PartClock, in_turns
from edgevlm.compiler.cost import count


def test_runs_take_turns_and_the_first_of_each_is_not_timed():
    now, ran = [0.0], []

    def run(name, seconds):
        def go():
            first = not ran or ran[-1] != name
            ran.append(name)
            now[0] += 50.0 if first else seconds

        return go  # fmt: skip

    found = in_turns([run("a", 0.002), run("b", 0.004)], clock=lambda: now[0], turns=(5, 7))
    assert [t.ms for t in found] == [pytest.approx(2.0), pytest.approx(4.0)]
    assert all(t.low <= t.ms <= t.high < 1.001 * t.low for t in found)
    assert {t.n for t in found} == {part_clock.TIMED * 5}, "50 s a turn: no more than must be"
    assert ran.count("a") == ran.count("b") == (part_clock.TIMED + 1) * 5


def test_parts_that_are_too_heavy_are_not_open_together(tiny_model, monkeypatch):
    part = tiny_model.parts["vision"]
    monkeypatch.setattr(part_clock, "HELD_BYTES", 2 * count(part).weight_bytes)
    sizes = []
    monkeypatch.setattr(PartClock, "_together", lambda self, parts: sizes.append(len(parts)) or [])
    PartClock(tiny_model, None, ()).measure(iter([part] * 5))
    assert sizes == [2, 2, 1]
