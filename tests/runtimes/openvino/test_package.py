"""The package: reported as missing in three lines, and imported without its telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import edgevlm
from edgevlm.compiler.errors import JobFault
from edgevlm.devices import find_device
from edgevlm.runtimes.openvino import package

SCRIPT = """
import socket, subprocess, multiprocessing, sys

def refuse(*args, **kwargs):
    raise AssertionError("a process or a connection was started")

socket.socket.connect = subprocess.Popen.__init__ = multiprocessing.Process.start = refuse
from edgevlm.runtimes.openvino.package import engine
assert engine() is engine() and engine()[0].available_devices
sent = [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert not sent, sent
import openvino
print(openvino.convert_model.__name__)
"""


def test_nothing_is_reported_and_nothing_is_written(tmp_path):
    """In a process of its own, with an empty home: the import alone leaves ~/intel behind."""
    env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "convert_model"  # the converter is there for who wants it
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fresh():
    """No engine is held, neither from before nor for later."""
    package.engine.cache_clear()
    yield
    package.engine.cache_clear()


def refused() -> JobFault:
    with pytest.raises(JobFault, match="EV302 runtime openvino lacks the package") as caught:
        package.engine()
    assert "pip install 'edgevlm[openvino]'" in caught.value.fix
    assert caught.value.exit_status == 1 and "2026.4" in caught.value.what
    return caught.value


def test_a_package_that_is_missing_is_told(fresh, monkeypatch):
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", gone)
    assert "not installed" in refused().why


def test_a_package_that_does_not_load_is_told(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "cannot be imported" in refused().why
    assert sys.modules.get(package.TELEMETRY, "") is not None  # others may import it


@pytest.mark.parametrize("found", ["2025.4.1", "2026.3.1"])
def test_an_old_package_is_refused_before_it_answers_wrongly(fresh, monkeypatch, found):
    monkeypatch.setattr(package, "version", lambda name: found)
    assert f"{found} is installed" in refused().why


def test_the_oldest_that_works_is_the_one_that_is_asked_for():
    """setup.cfg, the device file and the check say the same."""
    setup = ConfigParser()
    setup.read(Path(edgevlm.__file__).with_name("setup.cfg"))
    extras = setup["options.extras_require"]
    asked = {
        str(Requirement(line).specifier)
        for extra in ("openvino", "dev")
        for line in extras[extra].split()
        if line.startswith("openvino")
    }
    wanted = SpecifierSet(find_device("openvino").toolchain["openvino"])
    assert asked == {str(wanted)} and Version(package.OLDEST) in wanted
    assert Version("2026.3.1") not in wanted and package.installed() == version("openvino")
