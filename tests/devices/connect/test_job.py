"""A program there: followed through cuts, ended with its children, never two at once."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect import job as module
from edgevlm.devices.connect.connection import LinkLost
from edgevlm.devices.connect.job import Job

STEPS = """for i in 1 2 3 4 5 6; do
echo "{\\"done\\": $i, \\"total\\": 6}" >> progress; sleep %s; done
echo '{"n": 1}' > result.json.part && mv result.json.part result.json"""


@pytest.fixture
def job(device):
    job = Job(device)
    job.put({"order.json": b"{}"})
    yield job
    job.remove()


def steps(job, pause="0.02"):
    job.start(["sh", "-c", STEPS % pause])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_events_come_in_order_and_then_the_result(here, job):
    steps(job)
    assert [event["done"] for event in job.follow()] == [1, 2, 3, 4, 5, 6]
    assert json.loads(job.result("result.json")) == {"n": 1}
    job.remove()
    assert here.left() == []


def test_a_link_that_breaks_loses_no_line_and_repeats_none(here, job):
    here.open_s = 0.15
    steps(job, "0.1")
    seen = []
    for event in job.follow():
        seen.append(event["done"])
        if len(seen) == 4:
            here.dead = 1
    assert seen == [1, 2, 3, 4, 5, 6] and job.device.cuts >= 1
    assert job.result("result.json")


def test_a_start_whose_answer_was_lost_is_not_made_twice(here, job, monkeypatch):
    run = here.run

    def lost_once(line, feed=(), **how):
        reply = run(line, feed, **how)
        if "setsid" in line and not hasattr(here, "lost"):
            here.lost = True
            raise LinkLost("cut behind the end")
        return reply

    monkeypatch.setattr(here, "run", lost_once)
    job.start(["sh", "-c", "echo x >> started; sleep 0.2"])
    assert list(job.follow()) == []
    assert job.result("started") == b"x\n"


def test_two_at_once_are_refused_and_the_first_goes_on(here, device, job):
    steps(job, "0.1")
    other = Job(device)
    other.put({"order.json": b"{}"})
    with pytest.raises(JobFault, match="EV438 here is measuring for somebody else"):
        other.start(["true"])
    other.remove()
    assert len(list(job.follow())) == 6 and job.result("result.json")


def test_who_is_refused_leaves_the_folder_that_the_other_one_uses(here, device):
    first, second, third = (Job(device, uses) for uses in ("bundle-a", "bundle-a", "bundle-b"))
    for name in ("bundle-a", "bundle-b"):
        device.must(f"mkdir {here.home}/{name}", "making a folder")
    first.put({})
    steps(first, "0.05")
    for other in (second, third):
        other.put({})
        with pytest.raises(JobFault, match="EV438"):
            other.start(["true"])
        other.remove()
    assert "bundle-a" in here.left() and "bundle-b" not in here.left()
    assert len(list(first.follow())) == 6
    first.remove(keep=True)
    assert here.left() == ["bundle-a"]
    Job(device, "bundle-a").remove()
    assert not Path(here.home).exists()  # nothing is left, so our folder went as well


def test_a_lock_whose_owner_is_gone_is_taken_over(here, device, job):
    steps(job, "5")
    time.sleep(0.1)
    os.killpg(int(job.device.ask(f"cat {here.home}/{job.run}/pid").text), 9)
    time.sleep(0.1)
    other = Job(device)
    other.put({"order.json": b"{}"})
    other.start(["sh", "-c", "echo done > result.json"])
    assert list(other.follow()) == []
    other.remove()


def test_a_lock_from_before_a_restart_is_taken_over(here, device, job):
    """The process number may belong to somebody else by now."""
    lock = Path(here.home) / "lock"
    lock.mkdir()
    (lock / "owner").write_text(f"{os.getpid()} an-earlier-start run-x\n")
    steps(job)
    assert len(list(job.follow())) == 6


def test_removing_ends_what_still_runs_with_its_children(here, job):
    job.start(["sh", "-c", "sleep 100 & echo $! > child; wait"])
    deadline = time.monotonic() + 5
    child = ""
    while not child and time.monotonic() < deadline:
        child = job.device.ask(f"cat {here.home}/{job.run}/child 2>/dev/null").text.strip()
    job.remove()
    deadline = time.monotonic() + 5
    while alive(int(child)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int(child)) and here.left() == []


def test_a_program_that_fails_is_told_with_its_last_words(job):
    job.start(["sh", "-c", "echo first >&2; echo the cause >&2; exit 5"])
    assert list(job.follow()) == []
    with pytest.raises(JobFault, match="EV437 the run on here ended without a result: the cause"):
        job.result("result.json")


def test_a_program_that_is_killed_is_told(job):
    job.start(["sh", "-c", "kill -9 $$"])
    assert list(job.follow()) == []
    with pytest.raises(JobFault, match=r"EV437 .*: it was killed, most likely for want of memory"):
        job.result("result.json")


def test_a_whole_session_that_is_killed_is_noticed(here, job, monkeypatch):
    """With the wrapper that would have told the end, as when its user is logged out."""
    monkeypatch.setattr(module, "QUIET_S", 0.2)
    job.start(["sleep", "100"])
    time.sleep(0.2)
    pid = int(job.device.ask(f"cat {here.home}/{job.run}/pid").text)
    os.killpg(pid, 9)
    with pytest.raises(JobFault, match="EV437"):
        list(job.follow())


def test_a_device_that_restarts_has_no_result(here, job):
    here.open_s = 0.1
    steps(job, "0.1")

    def restart():
        here.dead = 1
        here.restart()

    timer = threading.Timer(0.05, restart)
    timer.start()
    with pytest.raises(JobFault, match="EV436 here was started anew meanwhile"):
        list(job.follow())


def test_lines_that_are_no_objects_say_nothing(job):
    job.start(["sh", "-c", "printf '[1]\\nnonsense\\n{\"done\": 1}\\n' >> progress"])
    assert list(job.follow()) == [{}, {}, {"done": 1}]


def test_no_reader_is_left_behind(here, job):
    steps(job)
    list(job.follow())
    tails = job.device.ask(f"cat {here.home}/{job.run}/tails").text.split()
    job.remove()
    deadline = time.monotonic() + 5
    while any(map(alive, map(int, tails))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert tails and not any(map(alive, map(int, tails)))
