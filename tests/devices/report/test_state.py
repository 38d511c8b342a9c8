"""Clocks and mode before and after."""

from __future__ import annotations

from edgevlm.devices.report.measured import States
from edgevlm.devices.report.state import state_rows

BEFORE = {"governor": "schedutil", "power_mode": "15W", "cpu_mhz": [1510.4, 1510.4, None],
          "cpu_most_mhz": 1728.0, "units_mhz": {"17000000.gpu": 1020.0, "nvdla": None}}  # fmt: skip
AFTER = BEFORE | {"cpu_mhz": [729.6, 1510.4], "units_mhz": {"17000000.gpu": 918.0}}


def test_what_changed_can_be_seen():
    assert state_rows(States.model_validate({"before": BEFORE, "after": AFTER})) == [
        ("power mode", "15W", "15W"),
        ("governor", "schedutil", "schedutil"),
        ("cores, MHz", "1,510", "730 to 1,510"),
        ("cores at the most, MHz", "1,728", "1,728"),
        ("17000000.gpu, MHz", "1,020", "918"),
    ]


def test_a_machine_that_shows_nothing_has_no_rows():
    """As virtual machines are."""
    bare = {"governor": None, "cpu_mhz": None, "units_mhz": {}, "power_mode": None}
    assert state_rows(States.model_validate({"before": bare, "after": bare})) == []


def test_what_one_side_shows_is_told():
    states = States.model_validate({"after": {"power_mode": "MAXN"}})
    assert state_rows(states) == [("power mode", "–", "MAXN")]
