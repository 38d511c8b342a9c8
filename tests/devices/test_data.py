"""What the device files that ship say: all that were promised, and figures that fit each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgevlm as package
from edgevlm.devices import find_device, list_devices
from edgevlm.devices.schema import parse_device

WANTED = """
jetson-orin-nano-8 jetson-orin-nano-super jetson-orin-nx-16 jetson-agx-orin-32 jetson-agx-orin-64
jetson-thor-t5000 jetson-thor-t4000 iphone-15-pro iphone-16-pro iphone-17-pro mac-m4
snapdragon-8-gen-2 snapdragon-8-gen-3 snapdragon-8-elite snapdragon-8-elite-gen-5 pixel-8 pixel-9
pixel-10 dimensity-9300 dimensity-9400 exynos-2400 exynos-2500 ethos-u55-32 ethos-u55-64
ethos-u55-128 ethos-u55-256 ethos-u65-256 ethos-u65-512 ethos-u85-128 ethos-u85-256 ethos-u85-512
ethos-u85-1024 ethos-u85-2048 imx93 imx95 raspberry-pi-5 kv260 zcu104 zcu102 pynq-z2 vck190
alveo-u50 host-cpu host-openvino h200
"""
ALIASES = ("jetson", "iphone", "pixel", "android", "ethos-u85", "fpga", "cpu")
DEVICES = {device.id: device for device in list_devices()}


def test_all_are_there_in_order():
    ids = list(DEVICES)
    assert set(WANTED.split()) <= set(ids)
    assert ids.index("ethos-u55-32") < ids.index("ethos-u55-128") < ids.index("ethos-u65-256")
    assert ids.index("iphone-15") < ids.index("iphone-15-pro") < ids.index("iphone-16-pro")


@pytest.mark.parametrize("alias", ALIASES)
def test_the_usual_short_names_are_known(alias):
    assert alias not in DEVICES and find_device(alias).id in DEVICES


@pytest.mark.parametrize("device", DEVICES.values(), ids=list(DEVICES))
def test_figures_fit_each_other(device):
    if device.host:
        return
    assert device.units and device.units[0].dtypes, (
        "what models are lowered to, and in which dtypes"
    )
    assert (device.fabric is not None) == (device.family == "fpga")
    for unit in device.units:
        for name, rate in unit.dtypes.items():
            if rate.dense and rate.sparse:
                assert rate.dense.value == pytest.approx(rate.sparse.value / 2, rel=0.02), name
    gpu = device.units[0].dtypes
    if device.family == "jetson" and gpu["int8"].dense and gpu["fp16"].dense:
        assert gpu["fp16"].dense.value == pytest.approx(gpu["int8"].dense.value / 2, rel=0.05)
    watts = [mode.watts.value for mode in device.power_modes if mode.watts]
    assert watts == sorted(watts)


@pytest.mark.parametrize("name", [name for name in DEVICES if name.startswith("ethos-")])
def test_an_ethos_does_two_operations_for_each_mac_and_clock(name):
    (unit,) = DEVICES[name].units
    macs = int(name.rpartition("-")[2])
    rate = 2 * macs * unit.clock.value * 1e6 / 1e12
    assert unit.dtypes["int8"].dense.value == pytest.approx(rate, abs=0.0005)


def test_rails_that_hold_everything_are_known_from_parts_of_it():
    for device in DEVICES.values():
        totals = [rail.name for rail in device.rails if rail.total]
        assert len(totals) <= 1
    assert [r.name for r in find_device("jetson").rails if r.total] == ["VDD_IN"]
    assert not any(r.total for r in find_device("agx-orin").rails), "there the sum has to do"


def test_the_example_of_the_document_is_read():
    text = (Path(package.__file__).parent / "docs" / "devices.md").read_text()
    example = text.partition("```toml")[2].partition("```")[0]
    assert parse_device(example, "board-8.toml").units[0].dtypes["int8"].dense.value == 33


def test_what_the_document_says_of_short_names_holds():
    text = (Path(package.__file__).parent / "docs" / "devices.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    told = {}
    for row in rows:
        names, stands_for = (re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[1:3])
        told.update(zip(names, stands_for, strict=False))
    assert len(told) > 5 and {name: find_device(name).id for name in told} == told


def test_what_nobody_published_is_absent():
    for name in ("snapdragon-8-elite", "pixel-9", "iphone-17-pro"):
        rates = [rate.dense for unit in find_device(name).units for rate in unit.dtypes.values()]
        assert rates and not any(rates)
