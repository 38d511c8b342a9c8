"""Sensors of boards, on trees that look like theirs."""

from __future__ import annotations

import pytest
from micro.sensors import hwmon, ina3221

from edgevlm.devices.power.ina226 import Ina226
from edgevlm.devices.power.ina260 import Ina260
from edgevlm.devices.power.ina3221 import Ina3221
from edgevlm.devices.power.sampled import whole

NANO = {"VDD_IN": (4968, 1160), "VDD_CPU_GPU_CV": (4960, 312), "VDD_SOC": (4968, 300)}
AGX = (
    {"VDD_GPU_SOC": (19864, 180), "VDD_CPU_CV": (19872, 40), "VIN_SYS_5V0": (5000, 700)},
    {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 200)},
)


def test_a_module_with_a_rail_for_everything(tmp_path):
    sensor = Ina3221(ina3221(tmp_path, NANO))
    assert sensor.available() is None and set(sensor.read()) == set(NANO)
    assert whole(sensor.read(), sensor.total) == pytest.approx(4.968 * 1.16)
    assert sensor.period_s() == 0.43


def test_a_module_without_one_has_the_sum(tmp_path):
    sensor = Ina3221(ina3221(tmp_path, *AGX, interval_ms=900))
    assert sensor.read()["VDD_GPU_SOC"] == pytest.approx(3.57552)
    total = sum(mv * ma / 1e6 for chip in AGX for mv, ma in chip.values())
    assert whole(sensor.read(), sensor.total) == pytest.approx(total)
    assert sensor.period_s() == 0.9, "as slow as the chip says"


@pytest.mark.parametrize("broken", ["in1_input", "curr2_input"])
def test_what_is_missing_or_no_number_is_told(tmp_path, broken):
    root = ina3221(tmp_path, NANO)
    (file,) = root.rglob(broken)
    file.write_text("none\n")
    assert "cannot be read" in Ina3221(root).available()
    file.unlink()
    assert "No such file" in Ina3221(root).available()


def test_two_rails_of_one_name_are_not_guessed_at(tmp_path):
    assert "two rails" in Ina3221(ina3221(tmp_path, NANO, NANO)).available()


def test_kria(tmp_path):
    other = {"name": "zynqmp", "temp1_input": 41000}
    root = hwmon(tmp_path, other, {"name": "ina260_u14", "power1_input": 3100000})
    sensor = Ina260(root)
    assert sensor.available() is None and sensor.read() == {"VCC_SOM": 3.1}
    assert "no Kria" in Ina260(tmp_path / "elsewhere").available()


def test_zcu(tmp_path):
    rails = ({"name": f"ina226_u{n}", "power1_input": n * 10000} for n in (76, 77, 79))
    sensor = Ina226(hwmon(tmp_path, *rails, {"name": "irps5401"}))
    assert sensor.available() is None and set(sensor.read()) == {"u76", "u77", "u79"}
    assert whole(sensor.read(), sensor.total) == pytest.approx(0.76 + 0.77 + 0.79)


@pytest.mark.parametrize("kind", [Ina3221, Ina260, Ina226])
def test_a_machine_without_the_sensor(tmp_path, kind):
    assert "this machine has no" in kind(tmp_path).available() and kind(tmp_path).read() == {}
