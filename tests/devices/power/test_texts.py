"""What programs on devices print, as they print it; every value here is synthetic."""

from __future__ import annotations

import plistlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.devices.power.dumpsys_battery import parse_battery
from edgevlm.devices.power.perfetto import parse_rails
from edgevlm.devices.power.power_stats import parse_delta, tpu
from edgevlm.devices.power.power_supply import battery_watts
from edgevlm.devices.power.powermetrics import parse_samples
from edgevlm.devices.power.sampled import whole
from edgevlm.devices.power.tegrastats import parse_line
from edgevlm.devices.power.xmutil import parse_platformstats

AGX = (
    "01-08-2026 15:36:50 RAM 25686/125772MB (lfb 1234x4MB) SWAP 0/0MB (cached 0MB) CPU "
    "[15%@2265,10%@2265,off] EMC_FREQ 0%@3199 GR3D_FREQ 99%@1300 GPU@48C tj@50.1C VDD_GPU_SOC "
    "15000mW/15000mW VDD_CPU_CV 3500mW/3500mW VIN_SYS_5V0 18500mW/18500mW"
)
NANO = (
    "RAM 2840/7620MB (lfb 512x4MB) SWAP 0/4096MB CPU [25%@1420,off,off,20%@1420] GR3D_FREQ 76% "
    "AO@42.5C GPU@40C CPU@42.5C VDD_IN 5765mW VDD_CPU_GPU_CV 1548mW VDD_SOC 1497mW"
)
OLD = (
    "RAM 3347/7467MB (lfb 100x4MB) EMC_FREQ 13%@2133 GR3D_FREQ 61%@[905] AO@-3.5C VDD_IN 5336/4970 "
    "VDD_CPU_GPU_CV 2617/2336 VDD_SOC 1478/1318"
)


def test_tegrastats_of_all_ages():
    agx, nano, old = map(parse_line, (AGX, NANO, OLD))
    assert agx.watts == {"VDD_GPU_SOC": 15.0, "VDD_CPU_CV": 3.5, "VIN_SYS_5V0": 18.5}
    assert (agx.gpu_percent, agx.gpu_mhz, agx.celsius) == (99, 1300, {"GPU": 48.0, "tj": 50.1})
    assert (agx.ram_mb, agx.ram_total_mb) == (25686, 125772)
    assert nano.watts == {"VDD_IN": 5.765, "VDD_CPU_GPU_CV": 1.548, "VDD_SOC": 1.497}
    assert nano.gpu_mhz is None and nano.celsius == {"AO": 42.5, "GPU": 40.0, "CPU": 42.5}
    assert old.watts == {"VDD_IN": 5.336, "VDD_CPU_GPU_CV": 2.617, "VDD_SOC": 1.478}
    assert old.gpu_mhz == 905 and old.celsius == {"AO": -3.5}
    assert whole(old.watts, frozenset({"VDD_IN"})) == 5.336


@given(st.text(max_size=200))
def test_tegrastats_reads_no_other_text(text):
    try:
        assert parse_line(text).ram_mb is not None
    except ValueError as error:
        assert "no line of tegrastats" in str(error)


def test_xmutil():
    text = (
        "Power Utilization\n SOM total power    :     3100 mW\n SOM total current  :     616 mA\n"
        " SOM total voltage  :     5017 mV\n"
    )
    assert parse_platformstats(text) == 3.1
    for other in ("", text.replace("mW", "W"), text.replace("power  ", "energy")):
        with pytest.raises(ValueError, match="SOM total power"):
            parse_platformstats(other)


BATTERY = {"current_now": "-812000\n", "voltage_now": "4102000\n", "status": "Discharging\n"}


@pytest.mark.parametrize("current", ["-812000", "812000", "-812", "812"])
def test_a_battery_in_every_spelling_of_its_current(current):
    assert battery_watts(BATTERY | {"current_now": current}) == pytest.approx(0.812 * 4.102)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "Charging"}, "charging: unplug it"),
        ({"status": "Full"}, "full"),
        ({"current_now": "0"}, "no current"),
        ({"voltage_now": "4102"}, "a battery of 0.004102 V"),
        ({"current_now": "fast"}, "invalid literal"),
    ],
)
def test_a_battery_that_tells_nothing_gives_no_watts(change, why):
    with pytest.raises(ValueError, match=why):
        battery_watts(BATTERY | change)
    with pytest.raises(ValueError, match="no status"):
        battery_watts({name: text for name, text in BATTERY.items() if name != "status"})


DUMPSYS = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: 87
  scale: 100
  voltage: 4102
  temperature: 291
  technology: Li-ion
"""


def test_dumpsys_battery():
    found = parse_battery(DUMPSYS)
    assert (found.powered_by, found.charging) == (("USB",), True)
    assert (found.percent, found.volts, found.celsius) == (87.0, 4.102, 29.1)
    bare = parse_battery("  level: 20\n  scale: 50\n  status: 3\n")
    assert (bare.percent, bare.charging, bare.volts, bare.powered_by) == (40.0, False, None, ())
    with pytest.raises(ValueError, match="level"):
        parse_battery("Can't find service: battery\n")


DELTA = """Elapsed time: 1000 ms
============= PowerStats HAL 2.0 energy meter ==============
                 [S9M_VDD_TPU_M]:TPU       12345.67 mWs (   12.34)
                   [S7M_VDD_TPU]:TPU        1000.33 mWs (    1.00)
               [S4M_VDD_CPUCL0]:CPU         2500.00 mWs (    2.50)
========== End of energy meter ==========
============= PowerStats HAL 2.0 state residencies ==============
"""


def test_power_stats():
    found = parse_delta(DELTA)
    assert found["[S9M_VDD_TPU_M]:TPU"] == pytest.approx(12.34567) and len(found) == 3
    assert tpu(found) == pytest.approx(13.346) and tpu({"[A]:CPU": 1.0}) is None


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("energy meter ==============", "meter", "no energy meter"),
        ("========== End", "--- end", "ends in the middle"),
        ("S7M_VDD_TPU]", "S9M_VDD_TPU_M]", "there twice"),
        ("  2500.00 mWs", " -2500.00 mWs", "counted backwards"),
        (" mWs", " J", "no rails"),
    ],
)
def test_power_stats_that_cannot_be_used(old, new, why):
    with pytest.raises(ValueError, match=why):
        parse_delta(DELTA.replace(old, new))


TRACE = """"ts","name","value"
1000000000,"power.rails.tpu",100.0
1000000000,"power.rails.cpu.big",5000.0
1000000000,"batt.current_ua",-812000.0
2000000000,"power.rails.tpu",2000100.0
2000000000,"power.rails.cpu.big",6000.0
3000000000,"power.rails.tpu",9000100.0
3000000000,"power.rails.cpu.big",1006000.0
"""


def test_perfetto():
    assert parse_rails(TRACE, 1.0, 2.0) == pytest.approx({"tpu": 2.0, "cpu.big": 0.001})
    assert parse_rails(TRACE, 0.0, 9.0) == pytest.approx({"tpu": 9.0, "cpu.big": 1.001})
    turned = "\n".join([TRACE.splitlines()[0], *reversed(TRACE.splitlines()[1:])])
    assert parse_rails(turned, 1.0, 2.0) == pytest.approx({"tpu": 2.0, "cpu.big": 0.001})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no rows"),
        ("a,b\n1,2\n", "no rows"),
        ('"ts","name","value"\n1,"batt.current_ua",-3\n', "publishes none"),
        (TRACE.replace("9000100", "50").replace("2000100", "90"), "counted backwards"),
        (TRACE.replace("1000000000,", "x,"), "invalid literal"),
    ],
)
def test_perfetto_that_cannot_be_used(text, why):
    with pytest.raises(ValueError, match=why):
        parse_rails(text, 1.0, 3.0)
    with pytest.raises(ValueError, match="no two samples"):
        parse_rails(TRACE, 1.0, 1.2)


def sample(seconds=0.2, **mj):
    processor = {f"{unit}_energy": spent for unit, spent in mj.items()}
    return plistlib.dumps({"elapsed_ns": int(seconds * 1e9), "processor": processor})


def test_powermetrics():
    found = parse_samples(b"\0".join([sample(cpu=400, gpu=100, ane=20), sample(0.4, cpu=400)]))
    assert [each.seconds for each in found] == [0.2, 0.4]
    assert found[0].joules == {"cpu": 0.4, "gpu": 0.1, "ane": 0.02}
    assert [each.watts for each in found] == pytest.approx([2.6, 1.0])


BOMB = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
<plist version="1.0"><dict><key>elapsed_ns</key><string>&b;</string></dict></plist>"""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"powermetrics must be invoked as the superuser\n",
        sample(),
        sample(0.0, cpu=1),
        sample(cpu=1)[:-20],
        sample(cpu="a lot"),
        plistlib.dumps([1, 2]),
        plistlib.dumps({"processor": {"cpu_energy": 1}}),
        BOMB,
    ],
    ids=range(10),
)
def test_powermetrics_that_cannot_be_used(data):
    with pytest.raises(ValueError):
        parse_samples(data)
