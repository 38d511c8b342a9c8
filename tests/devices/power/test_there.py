"""Meters of a phone read over the link; its answers are those that documents show (synthetic)."""

from __future__ import annotations

import time

import pytest
from micro.links import Here

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.connect.connection import Reply
from edgevlm.devices.connect.session import reach
from edgevlm.devices.power.base import window
from edgevlm.devices.power.power_supply import Battery
from edgevlm.devices.power.there import NAMES, meter_there

DELTA = """============= PowerStats HAL 2.0 energy meter ==============
                 [S9M_VDD_TPU_M]:TPU       {} mWs (   12.34)
========== End of energy meter ==========
"""
STATES = {"current_now": "-500000", "voltage_now": "4000000", "status": "Discharging"}


@pytest.fixture
def device(tmp_path, monkeypatch):
    """device.said: what dumpsys prints; device.battery: its files, {} for none."""
    (tmp_path / "device").mkdir()
    found = reach(Here(tmp_path / "device"), patience_s=0.1, sleep=lambda _: None)
    found.said, found.battery, found.asked = None, {}, []

    def ask(line, *_):
        found.asked.append(line)
        if line.startswith("dumpsys"):
            if found.said is None:
                return Reply(20, b"", "Can't find service: android.hardware.power.stats")
            return Reply(0, found.said.encode(), "")
        if found.battery is None:
            raise JobFault("EV436", "the link broke", "nobody answers", "again")
        mark = line.split("echo ")[1].split()[0]
        rows = (f"{mark} /sys/class/power_supply/battery/{n}\n{v}\n\n" for n, v in
                found.battery.items())  # fmt: skip
        return Reply(0, "".join(rows).encode(), "")

    monkeypatch.setattr(found, "ask", ask)
    return found


def test_rails_of_a_pixel_come_first(device):
    device.said, device.battery = DELTA.format("250.00"), STATES
    with meter_there("auto", device) as (meter, reason):
        assert (meter.name, reason) == ("power-stats", None)
        with window(meter) as opened:
            device.said = DELTA.format("3000.00")
    assert opened.energy.joules == pytest.approx(3.0)
    assert opened.energy.how == "measured-device"


def test_a_battery_is_asked_while_something_runs(device, monkeypatch):
    device.battery = STATES
    monkeypatch.setattr(Battery, "period", 0.01)
    with meter_there("auto", device) as (meter, _):
        with window(meter) as opened:
            time.sleep(0.2)
        assert opened.energy.watts == pytest.approx(2.0)
        assert (opened.energy.meter, opened.energy.how) == ("battery", "measured-device")


def test_why_there_is_none(device):
    device.battery = STATES | {"status": "Charging"}
    with meter_there("auto", device) as (meter, reason):
        assert meter is None and "Can't find service" in reason
        assert "the battery is charging: unplug it" in reason
    device.battery = {}
    with meter_there("battery", device) as (_, reason):
        assert reason == "battery: it has no battery that tells its current"


def test_a_link_that_breaks_is_no_reading(device):
    device.battery = None
    with meter_there("battery", device) as (_, reason):
        assert "cannot be read" in reason


def test_other_names(device):
    with meter_there("none", device) as (meter, reason):
        assert meter is None and reason == "no meter was asked for"
    with meter_there("rapl", device) as (meter, reason):
        assert meter is None and ", ".join(NAMES) in reason
    with pytest.raises(UsageFault, match="EV402"), meter_there("wind", device):
        pass
    assert device.asked == []
