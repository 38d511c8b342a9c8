"""A fleet that is stopped, or whose workers are killed: real signals to real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevlm.compiler.bundle import check_bundle

SETS = "".join(
    f'[[set]]\nname = "{a}-{b}"\nclasses = ["{a}", "{b}"]\n'
    for a, b in [("ant", "bee"), ("bee", "cat"), ("cat", "dog"), ("dog", "eel")]
)
#: runs the command line; the second bundle waits in the middle until it is stopped
HOLD = """
import time
from pathlib import Path
import edgevlm.commands.finish as module
real, left = module.check_artifacts, [1]
def held(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
        Path({mark!r}).touch()
        time.sleep(60)
    return real(*args, **kwargs)
module.check_artifacts = held
from edgevlm.cli import main
main()
"""
PLAIN = "from edgevlm.cli import main; main()"


@pytest.fixture
def begin(command, tmp_path):
    """Starts a call in a process of its own, which is ended with the test."""
    begun: list[subprocess.Popen] = []

    def start(code: str, jobs: int) -> subprocess.Popen:
        words = [sys.executable, "-c", code, *map(str, command(SETS, "--jobs", jobs))]
        begun.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        return begun[0]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def until(process: subprocess.Popen, holds) -> object:
    """What `holds` returns, once that is something."""
    deadline = time.monotonic() + 120
    while not (found := holds()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def workers(process: subprocess.Popen) -> list[int]:
    """Its children that were spawned to work."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                found.append(int(child))
    return found


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def blocks_ctrl_c(pid: int) -> bool:
    """From its first moment on: what a child of ours blocks, its parent blocked for it."""
    lines = dict(s.split(":\t") for s in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(lines["SigBlk"], 16) >> (signal.SIGINT - 1) & 1)


def made(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("fleet/*.edgevlm"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_one_process_what_was_done_stays_and_no_draft(begin, derive, tmp_path, number):
    mark = tmp_path / "mark"
    process = begin(HOLD.format(mark=str(mark)), 1)
    until(process, mark.exists)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err.splitlines()[-2:] == [
        "1 of 4 bundles are whole; the same command goes on",
        f"edgevlm: stopped by {number.name}; nothing is left half-written",
    ]
    assert {p.name for p in (tmp_path / "fleet").iterdir()} == {".lock", "ant-bee.edgevlm"}
    assert check_bundle(tmp_path / "fleet/ant-bee.edgevlm") == []
    ended = derive(SETS)
    assert (ended.status, ended.json["kept"], ended.json["done"]) == (0, 1, 3)


def test_ctrl_c_ends_the_workers_and_leaves_no_draft(begin, derive, tmp_path):
    process = begin(PLAIN, 2)
    until(process, lambda: made(tmp_path))
    pids = workers(process)
    assert len(pids) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("edgevlm: stopped by SIGINT")
    assert not any(map(alive, pids))
    names = {p.name for p in (tmp_path / "fleet").iterdir()}
    assert names == {".lock", *made(tmp_path)} and len(names) < 5
    assert all(check_bundle(tmp_path / "fleet" / name) == [] for name in made(tmp_path))
    ended = derive(SETS)
    assert ended.status == 0 and ended.json["kept"] == len(names) - 1


def test_ctrl_c_of_a_terminal_reaches_the_workers_too_and_they_say_nothing(begin, tmp_path):
    """It goes to the whole group of processes."""
    process = begin(f"import os; os.setpgrp(); {PLAIN}", 2)
    until(process, lambda: len(workers(process)) == 2)
    assert all(map(blocks_ctrl_c, workers(process)))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert {p.name for p in (tmp_path / "fleet").iterdir()} == {".lock", *made(tmp_path)}


def test_a_worker_that_is_killed_costs_the_bundle_it_was_at(begin, derive, tmp_path):
    process = begin(PLAIN, 2)
    (pid, *_) = until(process, lambda: workers(process))
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "error EV421: set 'ant-bee': the process that derived 'ant-bee' ended" in err
    assert "SIGKILL" in err
    assert made(tmp_path) == ["bee-cat.edgevlm", "cat-dog.edgevlm", "dog-eel.edgevlm"]
    ended = derive(SETS)
    assert (ended.status, ended.json["kept"], ended.json["done"]) == (0, 3, 1)


def test_workers_of_a_parent_that_was_killed_end(begin, tmp_path):
    process = begin(PLAIN, 2)
    pids = until(process, lambda: len(found := workers(process)) == 2 and found)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 60
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_at_once_in_one_folder_are_refused(begin, derive, tmp_path):
    mark = tmp_path / "mark"
    process = begin(HOLD.format(mark=str(mark)), 1)
    until(process, mark.exists)
    ended = derive(SETS)
    assert (ended.status, ended.json["error"]["code"]) == (1, "EV313")
    assert "another derivation is at work" in ended.err
