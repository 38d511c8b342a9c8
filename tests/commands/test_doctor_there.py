"""`edgevlm doctor --device ssh://...`: what a device has and lacks, asked for there."""

from __future__ import annotations

import pytest

from edgevlm.devices.connect import python as module
from edgevlm.runtimes import RUNTIMES, find_runtime
from edgevlm.runtimes.openvino.runtime import OpenVinoRuntime


def lines(report):
    return {check["name"]: check for check in report["checks"]}


def test_a_device_that_can_run_bundles(edgevlm, sshd):
    ended = edgevlm("doctor", "--device", sshd.address, "--json")
    found = lines(ended.json)
    assert ended.status == 0 and ended.json["ok"] and ended.json["device"] == sshd.address
    assert found["link"]["ok"] and "Linux" in found["link"]["found"]
    assert found["disk"]["ok"] and str(sshd.cache) in found["disk"]["found"]
    assert found["runtime ort"]["ok"] and "onnxruntime" in found["runtime ort"]["found"]
    assert found["machine"]["ok"] and "cores" in found["machine"]["found"]
    assert {"energy meter rapl", "energy meter ina3221", "temperature"} <= found.keys()
    assert sshd.left == []


def test_packages_that_are_missing_come_with_the_call_that_brings_them(edgevlm, sshd, monkeypatch):
    for name in RUNTIMES:
        monkeypatch.setattr(type(find_runtime(name)), "runs_with", ("numpy", "no-such-package"))
    ended = edgevlm("doctor", "--device", sshd.address, "--json")
    found = lines(ended.json)
    assert ended.status == 1 and not ended.json["ok"]
    assert "has no no-such-package" in found["runtime ort"]["found"]
    assert "pip install numpy no-such-package" in found["runtime ort"]["fix"]
    assert "machine" not in found and sshd.left == []


def test_one_runtime_is_enough(edgevlm, sshd, monkeypatch):
    monkeypatch.setattr(OpenVinoRuntime, "runs_with", ("no-such-package",))
    ended = edgevlm("doctor", "--device", sshd.address, "--json")
    assert ended.status == 0 and lines(ended.json)["runtime openvino"]["ok"] is None


def test_no_python_there(edgevlm, sshd, monkeypatch):
    monkeypatch.setattr(module, "OWN", "/nowhere")
    ended = edgevlm("doctor", "--device", sshd.address, "--python", "/no/python", "--json")
    assert ended.status == 1
    assert "/no/python does not run there" in lines(ended.json)["runtime ort"]["found"]


def test_nobody_there_is_a_line(edgevlm, sshd):
    sshd.stop()
    ended = edgevlm("doctor", "--device", sshd.address, "--json")
    assert ended.status == 1 and list(lines(ended.json)) == ["link"]
    assert "no ssh server answers" in lines(ended.json)["link"]["found"]


def test_what_it_says_of_itself_is_not_trusted(edgevlm, sshd, monkeypatch):
    from edgevlm.devices.connect.job import Job

    monkeypatch.setattr(Job, "result", lambda self, name: b'{"host": []}')
    ended = edgevlm("doctor", "--device", sshd.address, "--json")
    assert ended.status == 1 and lines(ended.json)["its own word"]["ok"] is False


@pytest.mark.parametrize("address", ["ssh://a b", "adb:-x", "http://host"])
def test_what_is_no_address(edgevlm, address):
    assert edgevlm("doctor", "--device", address).code == "EV430"


def test_over_adb(edgevlm, phone):
    phone.state = "unauthorized"
    ended = edgevlm("doctor", "--device", "adb:FAKE01")
    assert ended.status == 1 and "its screen asks" in " ".join(ended.err.split())
