"""Against a real sshd: keys, cuts in the middle of a copy, a network that goes and comes back."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest
from micro.links import Wire

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.address import connection_to
from edgevlm.devices.connect.clock import align
from edgevlm.devices.connect.copying import Item, copy
from edgevlm.devices.connect.job import Job
from edgevlm.devices.connect.session import reach


@pytest.fixture
def device(sshd):
    return reach(connection_to(sshd.address))


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(random.Random(0).randbytes(16 * 2**20))
    return Item(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def test_lines_streams_and_bytes(device):
    reply = device.ask("cat; echo err >&2; exit 7", lambda: [bytes(range(256)) * 1000])
    assert (reply.status, reply.err) == (7, "err")
    assert reply.out == bytes(range(256)) * 1000


def test_our_folder_lies_in_the_cache_of_the_account(sshd, device):
    assert device.facts.root == str(sshd.cache / "edgevlm-device")
    assert (sshd.cache / "edgevlm-device").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", [300_000, 10_000_000])
def test_a_copy_goes_on_behind_a_cut(sshd, large, at):
    """The wire is cut below ssh, as a cable that is pulled."""
    with Wire(sshd.port) as wire:
        sshd.know(wire.port)
        device = reach(connection_to(f"ssh://127.0.0.1:{wire.port}"))
        run, cuts = device.connection.run, []

        def cut_once(line, feed=(), **how):
            if "cat >>" in line and not cuts:
                cuts.append(line)
                wire.cut_after = at
            return run(line, feed, **how)

        device.connection.run = cut_once
        sent = copy(device, "b", {"w.bin": large}, lambda *_: None)
    there = sshd.cache / "edgevlm-device" / "b" / "w.bin"
    assert there.read_bytes() == large.path.read_bytes()
    assert device.cuts == 1
    # what had arrived was not sent again; ssh drops what it had not yet handed on, 2 MB at most
    assert sent < large.bytes + 5_000_000


def test_a_run_outlives_the_network(sshd, device):
    """The server and all its sessions are killed in the middle; the program does not notice."""
    job = Job(device)
    job.put({})
    count = "for i in 1 2 3 4 5 6 7 8; do echo '{\"n\": '$i'}' >> progress; sleep 0.3; done"
    job.start(["sh", "-c", count])
    seen = []
    for event in job.follow():
        seen.append(event["n"])
        if len(seen) == 2:
            threading.Thread(target=sshd.restart).start()
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8] and device.cuts >= 1
    job.remove()
    assert not list(sshd.cache.rglob("run-*"))


def test_a_server_that_stays_away_is_told(sshd, device):
    device.patience_s = 1.0
    sshd.stop()
    with pytest.raises(JobFault, match=r"EV436 the link to .* broke: no ssh server answers"):
        device.ask("true")


def test_a_host_whose_key_is_not_known(sshd):
    sshd.forget()
    with pytest.raises(JobFault, match=r"EV432 .*its host key is not known on this machine"):
        reach(connection_to(sshd.address))


def test_a_host_with_another_key_than_the_known_one(sshd):
    sshd.forget()
    sshd.know(sshd.port, "stranger")
    with pytest.raises(JobFault, match=r"EV432 .*its host key is not the one known for it"):
        reach(connection_to(sshd.address))


def test_a_key_that_is_not_accepted(sshd):
    sshd.use_key("stranger")
    with pytest.raises(JobFault, match=r"EV432 .*it accepts no key of this user"):
        reach(connection_to(sshd.address))


def test_a_host_key_that_changes_in_the_middle_ends_it(sshd, device):
    sshd.forget()
    sshd.know(sshd.port, "stranger")
    with pytest.raises(JobFault, match=r"EV432 .* lets us in no more"):
        device.ask("true")


def test_nobody_at_that_port(sshd):
    sshd.stop()
    with pytest.raises(JobFault, match=r"EV431 .*no ssh server answers at that port"):
        reach(connection_to(sshd.address))


def test_its_clock_is_ours(device):
    """It is the same machine."""
    found = align(device.connection)
    assert abs(found.offset_s) <= found.error_s < 0.5
