"""Real signals to real processes, in the middle of the work: nothing is left half-written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: runs the command line with one function replaced by one that says where we are, and waits
HOLD = """
import sys, time
from pathlib import Path
import {module} as module
real, mark, left = {owner}.{name}, Path({mark!r}), [{after}]
def held(*args, **kwargs):
    left[0] -= 1
    if left[0] < 0:
        mark.touch()
        time.sleep(60)
    return real(*args, **kwargs)
{owner}.{name} = held
from edgevlm.cli import main
main()
"""
#: verb -> (module, object, function) that is called in its middle, after how many calls to hold
MIDDLE = {
    "compile": ("edgevlm.commands.finish", "module", "check_artifacts", 0),
    "eval": ("edgevlm.models.answer", "module.Answerer", "answer", 20),
    "profile": ("edgevlm.models.answer", "module.Answerer", "answer", 20),
    "compare": ("edgevlm.models.answer", "module.Answerer", "answer", 40),
    "report": ("edgevlm.commands.report", "module", "render", 0),
}


def start(mark: Path, place: tuple, *args: object) -> subprocess.Popen:
    """The command line in a process of its own, held once it is in the middle."""
    module, owner, name, after = place
    code = HOLD.format(module=module, owner=owner, name=name, after=after, mark=str(mark))
    command = [sys.executable, "-c", code, *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def wait_until_stoppable(process: subprocess.Popen) -> None:
    """Until the process handles SIGTERM itself; before that Python's own start-up is at work."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


def end(process: subprocess.Popen, number: int) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def calls(verb: str, bundle: Path, other: Path, folder: Path) -> tuple[object, ...]:
    return {
        "compile": ("compile", "easyvqa-tiny", "--target", "cpu", "-o", folder / "new.edgevlm"),
        "eval": ("eval", bundle, "--dataset", "easy-scenes", "--limit", "500"),
        "profile": ("profile", bundle, "-n", "500"),
        "compare": ("compare", bundle, other, "-n", "500"),
        "report": ("report", bundle, "-o", folder / "page.html"),
    }[verb]


@pytest.mark.parametrize("verb", MIDDLE)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_ends_in_one_line(tmp_path, bundle, other_bundle, verb, number):
    args = calls(verb, bundle, other_bundle, tmp_path)
    process = start(tmp_path / "mark", MIDDLE[verb], *args, "--quiet")
    if verb == "compile":
        assert [p for p in tmp_path.iterdir() if ".draft-" in p.name]
    status, out, err = end(process, number)
    assert status == 128 + number and out == ""
    name = signal.Signals(number).name
    assert err == f"edgevlm: stopped by {name}; nothing is left half-written\n"
    assert [p.name for p in tmp_path.iterdir()] == ["mark"]


def test_ctrl_c_keeps_the_old_bundle(edgevlm, tmp_path, own_bundle):
    """Not quiet: the lines of progress come before the one line, and nothing else does."""
    before = (own_bundle / "manifest.json").read_bytes()
    args = ("compile", "easyvqa-tiny", "--target", "cpu", "-o", own_bundle, "--force")
    process = start(tmp_path / "mark", MIDDLE["compile"], *args)
    status, _, err = end(process, signal.SIGINT)
    assert status == 130 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("edgevlm: stopped by SIGINT")
    assert (own_bundle / "manifest.json").read_bytes() == before
    assert edgevlm("verify", own_bundle).status == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mark", "own.edgevlm"]


def test_a_kill_in_mid_write_leaves_the_old_bundle_and_the_next_compile_sweeps(
    edgevlm, tmp_path, own_bundle
):
    args = ("compile", "easyvqa-tiny", "--target", "cpu", "-o", own_bundle, "--force")
    process = start(tmp_path / "mark", MIDDLE["compile"], *args)
    status, _, _ = end(process, signal.SIGKILL)
    assert status == -signal.SIGKILL
    drafts = [p for p in tmp_path.iterdir() if ".draft-" in p.name]
    assert len(drafts) == 1 and (drafts[0] / "ort" / "weights.bin").stat().st_size > 10**6
    assert edgevlm("verify", own_bundle).status == 0
    assert edgevlm(*args).status == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mark", "own.edgevlm"]
    assert edgevlm("verify", own_bundle).status == 0


def test_a_draft_of_a_compile_that_still_runs_is_not_swept(edgevlm, tmp_path, micro_folder):
    """The neighbour's draft is locked, whatever its name says about a process."""
    out = tmp_path / "b.edgevlm"
    args = ("compile", micro_folder, "--target", "cpu", "-o", out)
    process = start(tmp_path / "mark", MIDDLE["compile"], *args)
    try:
        draft = next(p for p in tmp_path.iterdir() if ".draft-" in p.name)
        files = [p for p in draft.rglob("*") if p.is_file()]
        assert edgevlm(*args).status == 0
        assert files and all(p.is_file() for p in files)
    finally:
        process.kill()
        process.communicate()
    assert edgevlm("verify", out).status == 0


def test_a_signal_that_the_caller_ignores_stays_ignored(shell, tmp_path, micro_folder):
    """As under nohup: SIGHUP must not end it."""
    out = tmp_path / "b.edgevlm"
    command = f"trap '' HUP; edgevlm compile {micro_folder} --target cpu -o {out} & pid=$!; "
    ended = shell(
        command + "for i in 1 2 3 4 5 6 7 8; do sleep 0.1; kill -HUP $pid; done; wait $pid"
    )
    assert ended.status == 0 and (out / "manifest.json").is_file()


def test_killed_at_any_moment_a_bundle_is_whole(edgevlm, tmp_path, micro_folder, micro_bundle):
    """Old or new, never a half: the moments are drawn, the promise is not."""
    out = tmp_path / "b.edgevlm"
    assert edgevlm("compile", micro_folder, "--target", "cpu", "-o", out).status == 0
    program = Path(sys.executable).with_name("edgevlm")
    rng = random.Random(7)
    ends = set()
    for _ in range(6):
        number = rng.choice([signal.SIGKILL, signal.SIGINT])
        process = subprocess.Popen(
            [program, "compile", micro_folder, "--target", "cpu", "-o", out, "--force", "--quiet"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until_stoppable(process)
        time.sleep(rng.uniform(0.0, 1.2))
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        ends.add(process.returncode)
        assert "Traceback" not in err and "error EV" not in err
        assert edgevlm("verify", out).status == 0
    # -2: it was done, and Python was on its way out
    assert ends <= {0, 130, -signal.SIGINT, -signal.SIGKILL}
    assert edgevlm("compile", micro_folder, "--target", "cpu", "-o", out, "--force").status == 0
    assert os.listdir(tmp_path) == ["b.edgevlm"]  # noqa: PTH208
    assert (out / "manifest.json").read_bytes() == (micro_bundle / "manifest.json").read_bytes()
