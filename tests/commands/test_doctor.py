"""doctor: every check is there, says the truth about made-up machines, and never raises."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from edgevlm.commands import doctor_checks as module
from edgevlm.commands.doctor import Check, Report, doctor, render
from edgevlm.compiler.cache import cache_root
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.workshop.tools import tools
from edgevlm.devices import host as host_module


@pytest.fixture
def installed(monkeypatch):
    """Made-up metadata: `installed(requirements, versions)`."""

    def pretend(requirements: list[str], versions: dict[str, str | None]) -> None:
        real = metadata.metadata("edgevlm")
        monkeypatch.setattr(metadata, "metadata", lambda name: real)
        monkeypatch.setattr(metadata, "requires", lambda name: requirements)
        monkeypatch.setattr(
            host_module, "tool_versions", lambda names: {name: versions.get(name) for name in names}
        )

    return pretend


def by_name(device: str = "cpu") -> dict[str, Check]:
    return {check.name: check for check in doctor(device).checks}


def test_every_requirement_of_the_package_has_a_line():
    checks = by_name()
    for text in metadata.requires("edgevlm"):
        assert Requirement(text).name in checks
    assert {
        "python",
        "cores",
        "memory",
        "clock governor",
        "disk, current folder",
        "disk, cache",
        "temporary folder",
        "energy meter rapl",
        "chromium",
        "verilator",
        "g++",
    } <= set(checks)


def test_versions_and_ranges_come_from_the_installed_package():
    check = by_name()["onnx"]
    needed = next(r for r in map(Requirement, metadata.requires("edgevlm")) if r.name == "onnx")
    assert check.found == f"{metadata.version('onnx')} ({needed.specifier})"
    assert check.ok is True and check.needed_for == "everything" and check.fix is None


def test_every_extra_says_what_asks_for_it():
    assert set(metadata.metadata("edgevlm").get_all("Provides-Extra")) == set(module._EXTRAS)


def test_every_tool_has_a_line():
    assert {f"tool {name}" for name in tools()} <= set(by_name())


def test_every_line_that_is_not_true_says_what_to_do():
    for check in doctor().checks:
        assert check.found and check.needed_for
        assert (check.fix is None) is (check.ok is True), check


def test_a_missing_or_old_base_package_stops_everything(installed):
    installed(["numpy<3,>=1.26", "onnx<2,>=1.20"], {"onnx": "1.19.1"})
    checks = by_name()
    assert checks["numpy"] == Check(
        "numpy", False, "not installed (<3,>=1.26)", "everything", 'pip install "numpy<3,>=1.26"'
    )
    assert (checks["onnx"].ok, checks["onnx"].found) == (False, "1.19.1, not <2,>=1.20")
    assert not doctor().ok


def test_a_missing_extra_stops_only_the_devices_that_need_it(installed):
    installed(
        [
            'torch==2.13.0; extra == "torch"',
            'torch==2.13.0; extra == "coreml"',
            'scipy>=1.11; extra == "fpga"',
            'old; python_version < "3"',
        ],
        {"torch": "2.12.0"},
    )
    checks = by_name()
    assert (checks["torch"].ok, checks["torch"].found) == (None, "2.12.0, not ==2.13.0")
    assert checks["torch"].needed_for == f"{module._EXTRAS['torch']}; {module._EXTRAS['coreml']}"
    assert checks["torch"].fix == 'pip install "edgevlm[torch]"'
    assert checks["scipy"].ok is None and "old" not in checks
    assert {check.name: check.ok for check in module.packages("fpga")}["scipy"] is False


def test_a_local_build_of_a_pinned_version_fits(installed):
    installed(['torch==2.13.0; extra == "torch"'], {"torch": "2.13.0+cpu"})
    assert by_name()["torch"].ok is True


@pytest.mark.parametrize(
    ("governor", "ok", "advice"),
    [
        ("performance", True, None),
        ("powersave", None, "cpupower"),
        (None, None, "out of reach"),
    ],
)
def test_the_governor_is_judged(monkeypatch, governor, ok, advice):
    made_up = replace(host_module.describe_host(), governor=governor)
    monkeypatch.setattr(host_module, "describe_host", lambda: made_up)
    check = by_name()["clock governor"]
    assert check.ok is ok and (advice in check.fix if advice else check.fix is None)


def test_a_busy_machine_is_noted(monkeypatch):
    idle = replace(host_module.describe_host(), cores=4, load_average=(1.9, 0.0, 0.0))
    monkeypatch.setattr(host_module, "describe_host", lambda: idle)
    assert by_name()["load"].ok is True
    busy = replace(idle, load_average=(2.0, 0.0, 0.0))
    monkeypatch.setattr(host_module, "describe_host", lambda: busy)
    assert by_name()["load"].ok is None


def test_a_full_disk_and_a_closed_temporary_folder_stop_the_job(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5e8))

    def closed() -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(tempfile, "TemporaryFile", closed)
    checks = by_name()
    for name in ("disk, current folder", "disk, cache"):
        assert (checks[name].ok, checks[name].found) == (False, "0.5 GB free")
    assert checks["temporary folder"].found == "not writable (PermissionError)"


def test_the_cache_folder_need_not_exist_yet(tmp_path, monkeypatch):
    asked = []
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or real(path))
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "not" / "yet"))
    assert by_name()["disk, cache"].ok is not None and asked[-1] == tmp_path
    monkeypatch.delenv("EDGEVLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "edgevlm"


@pytest.mark.parametrize(
    ("names", "found", "ok"),
    [
        (
            {"g++", "google-chrome"},
            {"chromium": "google-chrome", "verilator": "not installed"},
            True,
        ),
        (set(), {"chromium": "not installed", "g++": "not installed"}, None),
    ],
)
def test_programs_are_looked_for_by_all_their_names(monkeypatch, names, found, ok):
    monkeypatch.setattr(shutil, "which", lambda name: name if name in names else None)
    checks = by_name()
    assert {name: checks[name].found for name in found} == found
    assert checks["chromium"].ok is ok and checks["verilator"].ok is None


@pytest.mark.parametrize("broken", ["python", "packages", "machine", "disk", "meters", "programs"])
def test_a_check_that_breaks_becomes_a_line(monkeypatch, broken):
    def burst(*_):
        raise RuntimeError("/home/somebody/secret")
        yield

    monkeypatch.setattr(module, broken, burst)
    report = doctor()
    failed = [check for check in report.checks if "the check itself failed" in check.found]
    assert len(failed) == 1 and failed[0].ok is False and not report.ok
    assert "RuntimeError" in failed[0].found and "secret" not in json.dumps(report.as_json())


def test_a_broken_device_file_becomes_a_line(monkeypatch):
    from edgevlm import devices
    from edgevlm.compiler.errors import JobFault

    def broken(name: str) -> None:
        raise JobFault("EV401", "device file x.toml, field id", "it is a number", "correct it")

    monkeypatch.setattr(devices, "find_device", broken)
    check = by_name()["device files"]
    assert check.ok is False and "it is a number" in check.found


def test_an_uninstalled_package_becomes_a_line(monkeypatch):
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    checks = by_name()
    assert checks["python"].ok is False and checks["packages"].ok is False and checks["cores"].ok


def test_an_unknown_device_is_a_wrong_call():
    with pytest.raises(UsageFault, match="EV301 unknown target 'toaster'"):
        doctor("toaster")


def test_as_json_has_the_promised_keys_and_no_path():
    data = doctor("host").as_json()
    assert data["device"] == "host-cpu" and isinstance(data["ok"], bool)
    for check in data["checks"]:
        assert list(check) == ["name", "ok", "found", "needed_for", "fix"]
    text = json.dumps(data)
    assert str(Path.home()) not in text and str(Path.cwd()) not in text


def test_render_goes_to_stderr_and_keeps_square_brackets(capsys):
    report = Report("host-cpu", (Check("torch", None, "not installed", "x", "edgevlm[torch]"),))
    render(report)
    out, err = capsys.readouterr()
    assert out == "" and "edgevlm[torch]" in err and "host-cpu" in err
    buffer = io.StringIO()
    render(doctor(), Console(file=buffer, width=200))
    assert "clock governor" in buffer.getvalue()
