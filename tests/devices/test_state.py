"""Clocks and power mode, read from a tree of files (synthetic) and from nvpmodel's words."""

from __future__ import annotations

from edgevlm.devices.state import describe_state


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def silent(command):
    return ""


def test_a_jetson(tmp_path):
    for core in range(12):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        put(tmp_path, f"{folder}/scaling_governor", "schedutil")
        put(tmp_path, f"{folder}/scaling_cur_freq", 729_600 + core * 100_000)
        put(tmp_path, f"{folder}/scaling_max_freq", 1_728_000)
    put(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", 1_020_000_000)
    put(tmp_path, "sys/class/devfreq/some-bus/cur_freq", 5)
    asked = []

    def run(command):
        asked.append(command)
        return "NV Power Mode: MAXN_SUPER\n2\n"

    state = describe_state(tmp_path, run)
    assert asked == [["nvpmodel", "-q"]]
    assert state["power_mode"] == "MAXN_SUPER" and state["governor"] == "schedutil"
    assert state["cpu_mhz"][:3] == [729.6, 829.6, 929.6] and state["cpu_mhz"][10] == 1729.6
    assert state["cpu_most_mhz"] == 1728.0 and state["units_mhz"] == {"17000000.gpu": 1020.0}


def test_cores_with_different_governors_and_one_that_does_not_tell(tmp_path):
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave")
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "much")
    state = describe_state(tmp_path, silent)
    assert state["governor"] == "performance, powersave" and state["cpu_mhz"] == [None, None]


def test_a_notebook_says_its_platform_profile(tmp_path):
    put(tmp_path, "sys/firmware/acpi/platform_profile", "balanced")
    assert describe_state(tmp_path, silent)["power_mode"] == "balanced"


def test_a_machine_that_says_nothing(tmp_path):
    assert describe_state(tmp_path, silent) == {
        "governor": None,
        "cpu_mhz": None,
        "cpu_most_mhz": None,
        "units_mhz": {},
        "power_mode": None,
    }


def test_this_machine_does_not_raise():
    assert describe_state().keys() == {
        "governor",
        "cpu_mhz",
        "cpu_most_mhz",
        "units_mhz",
        "power_mode",
    }
