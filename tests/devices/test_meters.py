"""Choosing a meter, and charging energy against idle, on scripted readings."""

from __future__ import annotations

import pytest

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices import power
from edgevlm.devices.power import Energy, find_meter, measure_energy
from edgevlm.devices.power.rapl import Rapl


def test_auto_takes_a_meter_that_works_and_says_why_it_takes_none(tmp_path, monkeypatch):
    package = tmp_path / "intel-rapl:0"  # synthetic
    package.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "9"), ("energy_uj", "1")):
        (package / name).write_text(text)
    monkeypatch.setitem(power.METERS, "rapl", lambda: Rapl(tmp_path))
    for kind in ("auto", "rapl"):
        meter, reason = find_meter(kind)
        assert meter.name == "rapl" and reason is None
    monkeypatch.setitem(power.METERS, "rapl", lambda: Rapl(tmp_path / "absent"))
    meter, reason = find_meter("rapl")
    assert meter is None and reason.startswith("rapl: this machine shows no RAPL")
    meter, reason = find_meter("auto")
    assert meter is None and reason.startswith("this machine has none of rapl, ina3221")
    assert find_meter("none") == (None, "no meter was asked for")


def test_auto_says_what_keeps_it_from_a_meter_that_is_there(tmp_path, monkeypatch):
    """And nothing of those that this machine does not have."""
    closed = Rapl(tmp_path)
    monkeypatch.setattr(closed, "available", lambda: "readable by root alone")
    monkeypatch.setitem(power.METERS, "rapl", lambda: closed)
    assert find_meter("auto") == (None, "rapl: readable by root alone")


def test_an_unknown_meter_is_a_wrong_call():
    with pytest.raises(UsageFault, match="unknown power meter 'jouls'") as caught:
        find_meter("jouls")
    assert caught.value.code == "EV402" and "rapl" in caught.value.why


class Scripted:
    """A fake meter whose windows give the energies it was handed, in order."""

    name = "scripted"

    def __init__(self, *readings: tuple[float, float]) -> None:
        self.readings, self.log = list(readings), []

    def available(self) -> str | None:
        return None

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> Energy:
        self.log.append("stop")
        joules, seconds = self.readings.pop(0)
        return Energy(joules, seconds, "measured-host", self.name, "board")


def test_energy_is_charged_with_and_without_idle():
    meter = Scripted((10, 5), (40, 10), (11, 5))  # idle 2 W, work, idle 2.2 W
    log = meter.log
    result = measure_energy(
        meter, lambda: log.append("work") or 8, idle_s=0, prepare=lambda: log.append("warm-up")
    )
    assert log == ["start", "stop", "warm-up", "start", "work", "stop", "start", "stop"]
    assert result.joules_per_answer == 5.0
    assert result.joules_above_idle_per_answer == pytest.approx((40 - 2.1 * 10) / 8)
    assert (result.idle_w_before, result.idle_w_after) == (2.0, 2.2)
    assert (result.answers, result.seconds, result.how) == (8, 10, "measured-host")
    assert "2.10 W included" in result.note and result.note.endswith("board")
    assert result.as_json()["joules_per_answer"] == 5.0


@pytest.mark.parametrize(
    ("before", "after", "good"),
    [
        (10, 12, True),
        (12, 10, True),
        (10, 12.1, False),
        (12.1, 10, False),
        (0, 0, True),
        (0, 1, False),
    ],
)
def test_idle_powers_more_than_a_fifth_apart_give_no_figure(before, after, good):
    result = measure_energy(Scripted((before, 1), (30, 1), (after, 1)), lambda: 1, idle_s=0)
    assert (result.joules_per_answer is not None) is good
    assert (result.joules_above_idle_per_answer is not None) is good
    assert result.note.startswith("rejected: idle power was") is not good
    assert result.idle_w_after == after  # the reader sees what the judgement rests on


@pytest.mark.parametrize(
    ("readings", "answers", "why"),
    [
        (((1, 1), (1, 1), (1, 1)), 0, "no answer"),
        (((1, 0), (1, 1), (1, 1)), 1, "no length"),
        (((1, 1), (1, 0), (1, 1)), 1, "no length"),
    ],
)
def test_a_window_that_says_nothing_gives_no_figure(readings, answers, why):
    result = measure_energy(Scripted(*readings), lambda: answers, idle_s=0)
    assert result.joules_per_answer is None and why in result.note


def test_the_idle_windows_last_as_long_as_asked(monkeypatch):
    slept = []
    monkeypatch.setattr(power, "sleep", slept.append)
    measure_energy(Scripted((1, 1), (1, 1), (1, 1)), lambda: 1, idle_s=7.5)
    assert slept == [7.5, 7.5]


def test_failing_work_stops_the_meter_and_passes_through():
    meter = Scripted((1, 1), (1, 1))

    def work() -> int:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        measure_energy(meter, work, idle_s=0)
    assert meter.log == ["start", "stop", "start", "stop"]
