"""Meters that are programs, or a battery: stand-ins print what documentation says they print."""

from __future__ import annotations

import json
import stat
import time

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.power.base import Absent, window
from edgevlm.devices.power.ina3221 import Ina3221
from edgevlm.devices.power.pmic import Pmic, parse_adc
from edgevlm.devices.power.power_stats import COMMAND, PowerStats
from edgevlm.devices.power.power_supply import Battery
from edgevlm.devices.power.program import run_program
from edgevlm.devices.power.sampled import Sampled
from edgevlm.devices.power.tegrastats import Tegrastats
from edgevlm.devices.power.xmutil import Xmutil

LINE = "RAM 2840/7620MB (lfb 512x4MB) SWAP 0/4096MB VDD_IN 5000mW VDD_CPU_GPU_CV 1500mW"
DELTA = """============= PowerStats HAL 2.0 energy meter ==============
                 [S9M_VDD_TPU_M]:TPU       {:.2f} mWs (   12.34)
                   [S2M_VDD_CPUCL2]:CPU(BIG)       2000.00 mWs (   12.34)
========== End of energy meter ==========
"""


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class TestTegrastats:
    def loop(self, tmp_path, line=LINE):
        return program(tmp_path / "tegrastats", f"while :; do echo '{line}'; sleep 0.01; done")

    def test_its_rail_of_the_whole_board_counts(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Ina3221, "period", 0.01)
        meter = Sampled(Tegrastats(self.loop(tmp_path)))
        assert meter.available() is None
        with window(meter) as opened:
            time.sleep(0.3)
        assert opened.energy.watts == pytest.approx(5.0) and opened.energy.peak_watts == 5.0
        assert meter.sensor._process is None  # it is not left running

    def test_it_is_asked_for_a_line_a_conversion(self, tmp_path):
        command = program(tmp_path / "t", f"echo \"$@\" > {tmp_path}/asked; echo '{LINE}'")
        Tegrastats(command).available()
        assert (tmp_path / "asked").read_text() == "--interval 430\n"

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("exit 1", "tegrastats has ended"),
            ("echo hello", "no line of tegrastats"),
            ("echo 'RAM 1/2MB GR3D_FREQ 0%'", "tegrastats prints no rails"),
        ],
    )
    def test_why_it_cannot_be_used(self, tmp_path, text, why):
        assert why in Tegrastats(program(tmp_path / "t", text)).available()

    def test_a_machine_without_it(self):
        assert isinstance(Tegrastats("no-such-program").available(), Absent)

    def test_one_that_ends_in_the_middle_gives_no_figure(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Ina3221, "period", 0.01)
        meter = Sampled(Tegrastats(program(tmp_path / "t", f"echo '{LINE}'; echo '{LINE}'")))
        meter.start()
        time.sleep(0.2)
        with pytest.raises(JobFault, match=r"EV402 .*tegrastats has ended"):
            meter.stop()


class TestXmutil:
    def test_an_older_image_is_asked_in_its_own_words(self):
        asked = []

        def run(command):
            asked.append(command[1])
            if command[1] == "xlnx_platformstats":
                raise OSError("no such subcommand")
            return "SOM total power    :     3100 mW\n"

        sensor = Xmutil(run)
        assert sensor.available() is None and sensor.read() == {"VCC_SOM": 3.1}
        assert asked == ["xlnx_platformstats", "platformstats", "platformstats"]

    def test_what_it_says_instead(self):
        assert "SOM total power" in Xmutil(lambda command: "permission denied").available()

    def test_a_machine_without_it(self):
        assert isinstance(Xmutil().available(), Absent)


class TestPmic:
    #: as https://github.com/leukipp/touchkio/issues/35 shows it of a board, some rails of it
    ADC = """\
 3V7_WL_SW_A current(0)=0.12199130A
  VDD_CORE_A current(7)=1.54489000A
  DDR_VDDQ_A current(4)=0.00000000A
 3V7_WL_SW_V volt(8)=3.60605200V
  VDD_CORE_V volt(15)=0.88725180V
  DDR_VDDQ_V volt(12)=0.60549390V
     EXT5V_V volt(24)=4.87894000V
      BATT_V volt(25)=2.50512600V
"""

    def test_watts_of_the_rails_that_have_both(self):
        watts = parse_adc(self.ADC)
        assert watts == pytest.approx(
            {
                "3V7_WL_SW": 0.1219913 * 3.606052,
                "VDD_CORE": 1.54489 * 0.8872518,
                "DDR_VDDQ": 0.0,
            }
        )

    def test_they_are_added_up_since_none_holds_the_board(self):
        meter = Sampled(Pmic(lambda command: self.ADC))
        meter.sensor.period_s = lambda: 0.01
        with window(meter) as opened:
            time.sleep(0.1)
        assert opened.energy.watts == pytest.approx(sum(parse_adc(self.ADC).values()))

    @pytest.mark.parametrize(
        "text", ["", "error=1 error_msg=Command not registered", "EXT5V_V volt(24)=4.8V"]
    )
    def test_an_older_board(self, text):
        assert "no Raspberry Pi 5" in Pmic(lambda command: text).available()

    def test_a_machine_without_it(self):
        assert isinstance(Pmic().available(), Absent)


class TestPowerStats:
    def test_joules_between_two_answers(self):
        answers = iter([DELTA.format(9), DELTA.format(9), DELTA.format(1500)])
        clock = iter([10.0, 14.0])
        asked = []

        def run(command):
            asked.append(command)
            return next(answers)

        meter = PowerStats(run, clock.__next__)
        assert meter.available() is None
        meter.start()
        spent = meter.stop()
        assert (spent.joules, spent.seconds) == (3.5, 4.0)
        assert "2 rails" in spent.note and "1.500 J in rails of its TPU" in spent.note
        assert asked == [COMMAND] * 3

    def test_a_phone_without_rails(self):
        assert "has no energy meter" in PowerStats(lambda command: "").available()

    def test_a_service_that_fails_in_the_middle(self):
        answers = iter([DELTA.format(9)])
        meter = PowerStats(lambda command: next(answers, ""))
        meter.start()
        with pytest.raises(JobFault, match="EV402 power meter power-stats"):
            meter.stop()

    def test_start_and_stop_come_in_pairs(self):
        meter = PowerStats(lambda command: DELTA.format(9))
        with pytest.raises(RuntimeError):
            meter.stop()
        meter.start()
        with pytest.raises(RuntimeError):
            meter.start()


class TestBattery:
    def put(self, root, name, **files):
        home = root / "sys/class/power_supply" / name
        home.mkdir(parents=True)
        for file, value in files.items():
            (home / file).write_text(f"{value}\n")

    def test_the_one_that_tells_its_current(self, tmp_path):
        self.put(tmp_path, "AC", online=0)
        self.put(
            tmp_path, "BAT0", current_now=-1_000_000, voltage_now=4_000_000, status="Discharging"
        )
        sensor = Battery(tmp_path)
        assert sensor.available() is None and sensor.read() == {"battery": 4.0}

    def test_one_that_charges_is_no_meter(self, tmp_path):
        self.put(
            tmp_path, "battery", current_now=1_000_000, voltage_now=4_000_000, status="Charging"
        )
        assert "the battery is charging: unplug it" in Battery(tmp_path).available()

    def test_none(self, tmp_path):
        assert isinstance(Battery(tmp_path).available(), Absent)


def test_programs_are_run_with_their_words_and_no_shell(tmp_path, monkeypatch):
    program(tmp_path / "tool", 'printf "%s|" "$@"; exit 0')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run_program(["tool", "a b", "$HOME;x"]) == "a b|$HOME;x|"
    program(tmp_path / "tool", "echo why >&2; exit 3")
    with pytest.raises(OSError, match="tool: why"):
        run_program(["tool"])
    with pytest.raises(OSError, match="no program nothing"):
        run_program(["nothing"])


def test_one_that_does_not_end(tmp_path, monkeypatch):
    from edgevlm.devices.power import program as module

    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path / "tool", "exec sleep 10")
    with pytest.raises(OSError, match="did not end"):
        run_program(["tool"])


def test_all_meters_say_why_they_are_not_here():
    from edgevlm.devices.power import METERS

    said = {name: make().available() for name, make in METERS.items()}
    assert all(reason is None or len(reason) > 10 for reason in said.values())
    json.dumps(said)  # as a device tells it
