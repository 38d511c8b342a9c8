"""How hot it got and whether it held itself back, read from trees of files (synthetic)."""

from __future__ import annotations

import pytest

from edgevlm.devices.thermal import PI, Thermal, hottest, temperatures


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def zone(root, number, kind, milli):
    put(root, f"sys/class/thermal/thermal_zone{number}/type", kind)
    put(root, f"sys/class/thermal/thermal_zone{number}/temp", milli)


def cooler(root, kind, state):
    put(root, "sys/class/thermal/cooling_device0/type", kind)
    put(root, "sys/class/thermal/cooling_device0/cur_state", state)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched(tmp_path):
    clock = Clock()
    thermal = Thermal(tmp_path, clock)
    return tmp_path, clock, thermal


def test_zones_by_name_without_those_that_are_off(tmp_path):
    zone(tmp_path, 0, "cpu-thermal", 48_500)
    zone(tmp_path, 1, "gpu-thermal", 51_000)
    zone(tmp_path, 2, "modem", -40_000)
    zone(tmp_path, 3, "broken", "none")
    seen = temperatures(tmp_path)
    assert seen == {"cpu-thermal": 48.5, "gpu-thermal": 51.0}
    assert hottest(seen) == ("gpu-thermal", 51.0)


def test_a_sensor_of_the_processor_where_there_is_no_zone(tmp_path):
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "nvme")
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", 70_000)
    put(tmp_path, "sys/class/hwmon/hwmon1/name", "k10temp")
    put(tmp_path, "sys/class/hwmon/hwmon1/temp1_input", 44_000)
    assert temperatures(tmp_path) == {"k10temp temp1": 44.0}


def test_a_look_a_second_at_most(watched):
    root, clock, thermal = watched
    zone(root, 0, "cpu", 40_000)
    thermal.begin()
    for step in range(30):
        clock.now = 100 + step / 10
        zone(root, 0, "cpu", 40_000 + 100 * step)
        thermal.look()
    thermal.end()
    data = thermal.as_json()
    assert [each["at_s"] for each in data["series"]] == [0.0, 1.0, 2.0, 2.9]
    assert (data["first_celsius"], data["peak_celsius"], data["last_celsius"]) == (40.0, 42.9, 42.9)


def test_before_it_begins_nothing_is_seen(watched):
    root, _, thermal = watched
    zone(root, 0, "cpu", 40_000)
    thermal.look()
    assert thermal.series == []


@pytest.mark.parametrize(
    ("kind", "state", "throttled"),
    [("cpufreq-cpu0", 0, False), ("cpufreq-cpu0", 2, True), ("pwm-fan", 3, None)],
)
def test_a_governor_that_acts_holds_back_and_a_fan_does_not(watched, kind, state, throttled):
    root, _, thermal = watched
    cooler(root, kind, state)
    thermal.begin()
    thermal.end()
    data = thermal.as_json()
    assert data["throttled"] is throttled
    assert (kind in data["why"]) == bool(throttled)


def test_it_is_enough_that_it_acted_once(watched):
    root, clock, thermal = watched
    cooler(root, "cpufreq-cpu0", 0)
    thermal.begin()
    clock.now += 2
    cooler(root, "cpufreq-cpu0", 1)
    thermal.look()
    cooler(root, "cpufreq-cpu0", 0)
    thermal.end()
    assert thermal.as_json()["why"] == "cooling device cpufreq-cpu0 acted"


def test_counters_that_rise_tell_and_old_counts_do_not(watched):
    root, _, thermal = watched
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    put(root, counter, 7)
    thermal.begin()
    thermal.end()
    assert thermal.as_json()["throttled"] is False
    again = Thermal(root)
    again.begin()
    put(root, counter, 9)
    again.end()
    assert again.as_json()["why"] == "cpu0 core_throttle_count rose by 2"


def test_events_of_a_jetson(watched):
    root, _, thermal = watched
    put(root, "sys/class/hwmon/hwmon3/name", "soctherm_oc")
    put(root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 0)
    thermal.begin()
    put(root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 4)
    thermal.end()
    assert thermal.as_json()["why"] == "oc3_event_cnt rose by 4"


@pytest.mark.parametrize(
    ("bits", "throttled"),
    [("0", False), ("50000", False), ("1", True), ("4", True), ("8", True)],
)
def test_a_raspberry_pi(watched, bits, throttled):
    """Bits from 16 on tell what was since it started, which says nothing of this run."""
    root, _, thermal = watched
    put(root, str(PI), bits)
    thermal.begin()
    thermal.end()
    assert thermal.as_json()["throttled"] is throttled


def test_a_machine_that_shows_nothing(watched):
    _, _, thermal = watched
    thermal.begin()
    thermal.end()
    data = thermal.as_json()
    assert data["throttled"] is None and data["peak_celsius"] is None
    assert data["why"] == "this machine shows nothing that tells"


def test_files_that_are_not_what_they_should_be(watched):
    root, _, thermal = watched
    zone(root, 0, "cpu", "\xff")
    cooler(root, "cpufreq-cpu0", "much")
    put(root, str(PI), "zz")
    thermal.begin()
    thermal.end()
    assert thermal.as_json()["throttled"] is None
