"""A sweep that is stopped or killed goes on where it was: real signals to real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

#: runs the command line; the n-th cell waits in the middle of its compile until it is stopped
HOLD = """
import sys, time
from pathlib import Path
import edgevlm.commands.finish as module
real, mark, left = module.check_artifacts, Path({mark!r}), [{after}]
def held(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
        mark.touch()
        time.sleep(60)
    return real(*args, **kwargs)
module.check_artifacts = held
from edgevlm.cli import main
main()
"""


@pytest.fixture
def held(micro_folder, tmp_path):
    """Starts a sweep of two cells and the baseline; returns when cell `after` is being compiled."""

    def start(after: int) -> subprocess.Popen:
        mark = tmp_path / "mark"
        mark.unlink(missing_ok=True)
        code = HOLD.format(mark=str(mark), after=after)
        args = ("sweep", micro_folder, "--target", "cpu", "--over", "tokens=6,3", "-n", "3", "-o",
                tmp_path / "sweep", "--quiet")  # fmt: skip
        command = [sys.executable, "-c", code, *map(str, args)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not mark.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    return start


def stop(process: subprocess.Popen, number: int) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_was_done_is_not_done_again(held, sweep, tmp_path, number):
    status, err = stop(held(after=2), number)
    folder = tmp_path / "sweep"
    if number == signal.SIGKILL:
        assert status == -number
        assert any(".draft-" in path.name for path in (folder / "cells").iterdir())
    else:
        name = signal.Signals(number).name
        assert status == 128 + number
        assert err == f"edgevlm: stopped by {name}; nothing is left half-written\n"
        assert not any(".draft-" in path.name for path in (folder / "cells").iterdir())
    before = json.loads((folder / "sweep.json").read_text())["cells"]
    assert [cell["name"] for cell in before] == ["baseline", "tokens=6"]
    ended = sweep("--over", "tokens=6,3")
    after = ended.json["cells"]
    assert ended.status == 0 and ended.json["measured"] == 1
    assert [cell["name"] for cell in after] == ["baseline", "tokens=6", "tokens=3"]
    assert [c["timing"] for c in after[:2]] == [c["timing"] for c in before]
    assert "the baseline again" not in ended.err  # its bundle was still there
    assert not (folder / "cells").exists()


def test_killed_in_the_first_cell_there_is_nothing_to_keep(held, sweep):
    stop(held(after=0), signal.SIGKILL)
    ended = sweep("--over", "tokens=6,3")
    assert ended.status == 0 and ended.json["measured"] == 3


def test_stopped_in_the_first_cell_nothing_is_left(held, tmp_path):
    stop(held(after=0), signal.SIGINT)
    assert not (tmp_path / "sweep").exists()


def test_a_baseline_that_is_gone_or_spoilt_is_compiled_again(held, sweep, tmp_path):
    stop(held(after=1), signal.SIGKILL)
    bundle = next((tmp_path / "sweep" / "cells").glob("baseline*"))
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace("micro", "macro"))
    ended = sweep("--over", "tokens=6,3")
    assert ended.status == 0 and ended.json["measured"] == 2
    assert "the baseline again, to be timed beside the others" in ended.err


def test_a_second_sweep_in_the_same_folder_is_refused(held, sweep):
    process = held(after=1)
    try:
        ended = sweep("--over", "tokens=6,3")
        assert (ended.status, ended.json["error"]["code"]) == (1, "EV313")
    finally:
        stop(process, signal.SIGKILL)
    assert sweep("--over", "tokens=6,3").status == 0
