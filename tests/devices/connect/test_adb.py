"""The real adb client against a stand-in for its server: the protocol is real, the phone is not."""

from __future__ import annotations

import hashlib

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.address import connection_to
from edgevlm.devices.connect.clock import align
from edgevlm.devices.connect.copying import Item, copy
from edgevlm.devices.connect.job import Job
from edgevlm.devices.connect.session import reach


@pytest.fixture
def device(phone):
    return reach(connection_to("adb:FAKE01"))


def test_bytes_streams_and_status(phone, device):
    data = bytes(range(256)) * 2000  # with line ends, which a terminal would change
    reply = device.ask("cat; echo err >&2; exit 7", lambda: [data])
    assert (reply.status, reply.out, reply.err) == (7, data, "err")
    assert device.facts.root == str(phone.folder / "edgevlm-device")
    assert any(asked.startswith("shell,v2") for asked in phone.asked)


def test_the_one_device_needs_no_serial(phone):
    assert reach(connection_to("adb")).address == "adb"


def test_a_copy_goes_on_behind_a_cut(phone, device, tmp_path):
    """adb's client ends with status 0 when its link is cut: it is not believed."""
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(range(251)) * 10_000)
    item = Item(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    phone.cut_after = 500_000
    sent = copy(device, "b", {"w.bin": item}, lambda *_: None)
    assert (phone.folder / "edgevlm-device" / "b" / "w.bin").read_bytes() == path.read_bytes()
    assert device.cuts == 1 and sent < 2 * item.bytes


def test_a_program_is_followed(phone, device):
    job = Job(device)
    job.put({})
    job.start(["sh", "-c", "for i in 1 2 3; do echo '{\"n\": '$i'}' >> progress; sleep 0.05; done"])
    assert [event["n"] for event in job.follow()] == [1, 2, 3]
    job.remove()


@pytest.mark.parametrize(
    ("state", "code", "why"),
    [
        ("offline", "EV431", "it is connected and does not answer"),
        ("unauthorized", "EV432", "it has not allowed this computer"),
    ],
)
def test_a_device_that_is_there_and_not_ready(phone, state, code, why):
    phone.state = state
    with pytest.raises(JobFault, match=f"{code} .*{why}"):
        reach(connection_to("adb:FAKE01"))


def test_another_serial_number(phone):
    with pytest.raises(JobFault, match=r"EV431 adb:NOPE .*no device with that serial number"):
        reach(connection_to("adb:NOPE"))


def test_its_clock(device):
    found = align(device.connection)
    assert abs(found.offset_s) <= found.error_s < 0.5
