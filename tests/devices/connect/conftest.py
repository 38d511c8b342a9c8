"""Devices to talk to: this machine's shell, a real sshd, the real adb with a stand-in."""

from __future__ import annotations

import pytest
from micro.links import Here

from edgevlm.devices.connect.session import reach


@pytest.fixture
def here(tmp_path):
    (tmp_path / "device").mkdir()
    return Here(tmp_path / "device")


@pytest.fixture
def device(here):
    return reach(here, patience_s=2.0, sleep=lambda _: None)
