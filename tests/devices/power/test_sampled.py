"""Energy from readings of watts: trapezoids, never faster than the sensor, never from too few."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.power import measure_energy
from edgevlm.devices.power.base import window
from edgevlm.devices.power.sampled import LEAST, Reading, Sampled, joules, whole

TIMES = st.lists(st.floats(0.01, 5), min_size=1, max_size=20)


@given(gaps=TIMES, slope=st.floats(-3, 3), level=st.floats(20, 90), cut=st.floats(0, 1))
def test_a_straight_line_is_added_up_exactly(gaps, slope, level, cut):
    """Whatever the times of readings, and where in them the window begins."""
    at = np.cumsum([0.0, *gaps])
    readings = [Reading(float(t), level + slope * float(t)) for t in at]
    start, end = cut * float(at[-1]), float(at[-1])
    wanted = level * (end - start) + slope * (end**2 - start**2) / 2
    assert joules(readings, start, end) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(gaps=TIMES, watts=st.lists(st.floats(0, 100), min_size=21, max_size=21), mid=st.floats(0, 1))
def test_two_windows_side_by_side_are_one(gaps, watts, mid):
    at = np.cumsum([0.0, *gaps])
    readings = [Reading(float(t), w) for t, w in zip(at, watts, strict=False)]
    end = float(at[-1])
    both = joules(readings, 0, mid * end) + joules(readings, mid * end, end)
    assert both == pytest.approx(joules(readings, 0, end), rel=1e-9, abs=1e-9)


def test_outside_of_readings_power_stays_as_it_was():
    readings = [Reading(1.0, 2.0), Reading(2.0, 4.0)]
    assert joules(readings, 0.0, 3.0) == pytest.approx(2 + 3 + 4)
    assert joules(readings[:1], 5.0, 7.0) == pytest.approx(4)


def test_the_rail_that_holds_everything_is_not_added_to_its_parts():
    rails = {"VDD_IN": 5.0, "VDD_SOC": 1.5, "VDD_CPU_GPU_CV": 2.0}
    assert whole(rails, frozenset({"VDD_IN"})) == 5.0
    del rails["VDD_IN"]
    assert whole(rails, frozenset({"VDD_IN"})) == 3.5
    with pytest.raises(ValueError, match="no rail"):
        whole({}, frozenset())


class Steady:
    """Synthetic: a sensor of one rail that changes every 10 ms."""

    name, total, note = "steady", frozenset(), "a test"

    def __init__(self, watts=4.0, fails_at=None, reason=None):
        self.watts, self.fails_at, self.reason, self.reads = watts, fails_at, reason, []

    def available(self):
        return self.reason

    def close(self):
        pass

    def period_s(self):
        return 0.01

    def read(self):
        self.reads.append(time.monotonic())
        if len(self.reads) == self.fails_at:
            raise OSError("the sensor went away")
        return {"all": self.watts}


def test_a_window_of_a_steady_sensor():
    sensor = Steady()
    with window(Sampled(sensor)) as opened:
        time.sleep(0.2)
    spent = opened.energy
    assert spent.watts == pytest.approx(4.0) and spent.joules == pytest.approx(4 * spent.seconds)
    assert (spent.meter, spent.note, spent.how) == ("steady", "a test", "measured-host")
    assert spent.peak_watts == 4.0
    assert LEAST <= len(sensor.reads) <= 0.2 / 0.01 + 30 * spent.seconds


def test_it_is_read_no_faster_than_it_changes():
    sensor = Steady()
    with window(Sampled(sensor)):
        time.sleep(0.25)
    assert len(sensor.reads) <= 0.25 / 0.01 + 5


def test_too_few_readings_give_no_figure():
    meter = Sampled(Steady())
    meter.start()
    with pytest.raises(JobFault) as caught:
        meter.stop()
    assert caught.value.code == "EV402" and "changes every 0.01 s" in caught.value.why


def test_a_sensor_that_goes_away_is_told_and_the_meter_can_be_used_again():
    sensor = Steady(fails_at=3)
    meter = Sampled(sensor)
    meter.start()
    time.sleep(0.1)
    with pytest.raises(JobFault, match="EV402") as caught:
        meter.stop()
    assert "the sensor went away" in caught.value.why
    with window(meter) as opened:
        time.sleep(0.1)
    assert opened.energy.watts == pytest.approx(4.0)


def test_one_that_cannot_be_read_does_not_start():
    with pytest.raises(JobFault, match="EV402") as caught:
        Sampled(Steady(reason="it is not here")).start()
    assert caught.value.why == "it is not here"


def test_start_and_stop_come_in_pairs():
    meter = Sampled(Steady())
    with pytest.raises(RuntimeError, match="without start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="twice"):
        meter.start()
    time.sleep(0.06)
    meter.stop()


def test_idle_that_differs_is_rejected_with_a_sampled_meter_too():
    sensor = Steady()

    def work():
        sensor.watts = 40.0
        time.sleep(0.1)
        return 5

    result = measure_energy(Sampled(sensor), work, idle_s=0.1)
    assert (
        result.joules_per_answer is None and "idle power was 4.00 W before and 40.00" in result.note
    )
