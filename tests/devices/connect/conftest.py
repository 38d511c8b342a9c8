"""Devices to talk to: this machine's shell, a real sshd, the real adb with a stand-in."""

from __future__ import annotations

import os
import shutil

import pytest
from micro.adb_server import AdbServer
from micro.links import Here
from micro.sshd import HOW_TO_GET_IT, Sshd, find_sshd

from edgevlm.devices.connect.session import reach


@pytest.fixture
def here(tmp_path):
    (tmp_path / "device").mkdir()
    return Here(tmp_path / "device")


@pytest.fixture
def device(here):
    return reach(here, patience_s=2.0, sleep=lambda _: None)


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    if find_sshd() is None:
        pytest.skip(HOW_TO_GET_IT)
    home = tmp_path / "sshd"
    home.mkdir()
    with Sshd(home) as server:
        monkeypatch.setenv("PATH", server.path(os.environ["PATH"]))
        yield server


@pytest.fixture
def phone(tmp_path, monkeypatch):
    if shutil.which("adb") is None:
        pytest.skip("no adb on this machine: sudo apt-get install adb")
    home = tmp_path / "phone"
    home.mkdir()
    with AdbServer(home) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield server
