"""What a user may write for a device that is somewhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.connect.address import connection_to, is_address


@pytest.mark.parametrize(
    ("address", "command"),
    [
        ("ssh://pi", ["--", "pi", "true"]),
        ("ssh://pi@raspberrypi.local", ["--", "pi@raspberrypi.local", "true"]),
        ("ssh://nv@10.0.0.7:2222", ["-p", "2222", "--", "nv@10.0.0.7", "true"]),
        ("ssh://[fe80::1%eth0]:22/", ["-p", "22", "--", "fe80::1%eth0", "true"]),
        ("adb", ["adb", "shell", "-T", "true"]),
        ("adb:R5CT1", ["adb", "-s", "R5CT1", "shell", "-T", "true"]),
        ("adb:192.168.1.5:5555", ["adb", "-s", "192.168.1.5:5555", "shell", "-T", "true"]),
    ],
)
def test_addresses(address, command):
    connection = connection_to(address)
    argv = connection.argv("true")
    assert argv[-len(command) :] == command
    assert connection.address == address.rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "ssh://",
        "ssh://-oProxyCommand=touch x",
        "ssh://-l@host",
        "ssh://user:secret@host",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host/home",
        "ssh://host name",
        "ssh://host\n",
        "ssh://ho;st",
        "adb:",
        "adb:-s",
        "adb:a b",
        "telnet://host",
        ":",
    ],
)
def test_what_is_no_address(address):
    with pytest.raises(UsageFault, match="EV430"):
        connection_to(address)


@given(st.text(max_size=40))
def test_no_text_becomes_an_option_of_the_client(text):
    for start in ("ssh://", "adb:", ""):
        try:
            argv = connection_to(start + text).argv("line")
        except UsageFault:
            continue
        named = argv[-2] if argv[0] == "ssh" else (argv[2] if argv[1] == "-s" else "x")
        assert not named.startswith("-") and "\n" not in named


@pytest.mark.parametrize(
    ("device", "is_one"), [("ssh://x", True), ("adb", True), ("adb:1", True), ("jetson", False)]
)
def test_addresses_are_told_from_names_of_device_files(device, is_one):
    assert is_address(device) == is_one
