"""The package: reported as missing in three lines, and imported without its telemetry."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgevlm.compiler.errors import JobFault
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


def test_a_package_that_is_missing_or_does_not_load_is_told(monkeypatch):
    package.engine.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(JobFault, match="EV302 runtime openvino lacks the package") as caught:
        package.engine()
    package.engine.cache_clear()
    assert "pip install 'edgevlm[openvino]'" in caught.value.fix
    assert caught.value.exit_status == 1
    assert package.TELEMETRY not in sys.modules or sys.modules[package.TELEMETRY] is not None
