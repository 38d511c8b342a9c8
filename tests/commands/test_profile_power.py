"""What `edgevlm profile` says of power, with a stand-in for a sensor: the watts are synthetic."""

from __future__ import annotations

import pytest

from edgevlm.commands import profile_here as command
from edgevlm.devices import power
from edgevlm.devices.power.sampled import Sampled


class Sensor:
    """Of one rail, which changes every 5 ms."""

    name, total, note = "ina3221", frozenset(), "a stand-in"

    def available(self):
        return None

    def close(self):
        pass

    def period_s(self):
        return 0.005

    def read(self):
        return {"VDD_IN": 5.0}


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setitem(power.METERS, "ina3221", lambda: Sampled(Sensor()))
    monkeypatch.setattr(command, "IDLE_S", 0.1)


def test_watts_joules_and_pictures_a_watt(measured, edgevlm, bundle):
    call = ("profile", bundle, "-n", "40", "--power", "ina3221")
    report = edgevlm(*call, "--json").json
    found = report["power"]
    assert found["watts"] == found["peak_watts"] == pytest.approx(5.0)
    assert found["joules_per_answer"] == pytest.approx(5.0 * found["seconds"] / 40)
    assert found["fps_per_watt"] == pytest.approx(report["fps"] / 5)
    assert found["joules_above_idle_per_answer"] == pytest.approx(0, abs=1e-6)
    said = edgevlm(*call).err
    assert "5.00 W in the mean, 5.00 W at most" in said and "images/s a watt (ina3221)" in said


def test_no_meter_is_null_with_the_reason(monkeypatch, edgevlm, bundle):
    ended = edgevlm("profile", bundle, "-n", "1", "--power", "ina3221", "--json")
    assert ended.json["power"] is None and ended.json["energy_j_per_answer"] is None
    assert "this machine has no INA3221" in ended.json["energy_note"]
