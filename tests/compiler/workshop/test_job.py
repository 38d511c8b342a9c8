"""A function in another process: its reply, its errors, and every way not to end well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.workshop.job import run_in


def call(jobs, name: str, request: dict, folder: Path, within_s: float = 60) -> dict:
    return run_in(jobs, f"workshop_jobs:{name}", request, what="the work", folder=folder,
                  within_s=within_s)  # fmt: skip


def fault(jobs, name: str, request: dict, folder: Path, within_s: float = 60) -> JobFault:
    with pytest.raises(JobFault) as told:
        call(jobs, name, request, folder, within_s)
    assert all(told.value.lines())
    return told.value


def gone(pid: int) -> bool:
    """Whether the process ended; a zombie that nobody has fetched did."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(true, what: str) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def test_a_request_and_its_reply(jobs, tmp_path, capfd):
    asked = {"names": ["ä", "b c"], "n": 3, "none": None, "x": 0.1}
    assert call(jobs, "echo", asked, tmp_path) == {"request": asked, "modules": []}
    assert (tmp_path / "seen.txt").read_text() == "True"
    assert capfd.readouterr() == ("", "")  # what a vendor prints is not for our streams


def test_all_is_shown_when_asked_for(jobs, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("EDGEVLM_DEBUG", "1")
    call(jobs, "echo", {}, tmp_path)
    assert capfd.readouterr() == ("", "noise on stdout\n")


@pytest.mark.parametrize("usage", [True, False])
def test_an_error_of_ours_arrives_as_it_was_raised(jobs, tmp_path, usage):
    with pytest.raises(UsageFault if usage else JobFault) as told:
        call(jobs, "fault", {"usage": usage}, tmp_path)
    assert told.value.lines() == (
        "error EV303: node 'a'", "  why:  line one line two", "  next: do b"
    )  # fmt: skip


def test_an_error_of_a_vendors_is_told_with_its_place(jobs, tmp_path):
    found = fault(jobs, "vendor", {}, tmp_path)
    assert (found.code, found.what) == ("EV372", "the work failed in this environment")
    assert found.why.startswith(
        "part vision: ValueError: tensor has 5 dimensions, at workshop_jobs"
    )


def test_a_program_that_exits_is_an_error_too(jobs, tmp_path):
    assert fault(jobs, "leave", {}, tmp_path).why.startswith("SystemExit: 3, at workshop_jobs.py")


def test_a_crash_says_how_and_the_last_words(jobs, tmp_path):
    found = fault(jobs, "crash", {}, tmp_path)
    assert (found.code, found.what) == ("EV373", "the work gave no answer in this environment")
    assert found.why == "it was ended by SIGSEGV; its last words: about to fall"


@pytest.mark.parametrize("name", ["nobody", "unspeakable"])
def test_a_function_that_is_none_or_replies_no_json_is_an_error(jobs, tmp_path, name):
    found = fault(jobs, name, {}, tmp_path)
    assert found.code == "EV372"
    assert ("AttributeError" if name == "nobody" else "not JSON serializable") in found.why


def test_a_broken_reply_is_no_answer(jobs, tmp_path):
    found = fault(jobs, "rude", {}, tmp_path)
    assert (found.code, found.why) == ("EV373", "its reply cannot be read")


def test_time_that_is_up_ends_it_with_all_that_it_started(jobs, tmp_path):
    found = fault(jobs, "sleeper", {}, tmp_path, within_s=5)
    assert found.code == "EV373" and found.why == "it was not done within 5 s"
    for pid in (tmp_path / "pids.txt").read_text().split():
        wait_for(lambda pid=pid: gone(int(pid)), "it goes on")


class Stop(BaseException):
    """As a signal raises it."""


def test_what_stops_us_ends_it_with_all_that_it_started(jobs, tmp_path):
    pids = tmp_path / "pids.txt"

    def press() -> None:
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it never began")
        os.kill(os.getpid(), signal.SIGUSR1)

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    threading.Thread(target=press).start()
    try:
        with pytest.raises(Stop):
            call(jobs, "sleeper", {}, tmp_path)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: gone(int(pid)), "it goes on")


def test_it_does_not_outlive_a_maker_that_was_killed(jobs, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from edgevlm.compiler.workshop.interpreter import Interpreter\n"
        "from edgevlm.compiler.workshop.job import run_in\n"
        "run_in(Interpreter('here', Path(sys.executable), True), 'workshop_jobs:sleeper', {},\n"
        "       what='x', folder=Path(sys.argv[1]), within_s=600)"
    )
    import edgevlm

    beside = Path(edgevlm.__file__).parents[1]
    paths = os.pathsep.join((os.environ["PYTHONPATH"], *sys.path, str(beside)))
    maker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
    )
    pids = tmp_path / "pids.txt"
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it never began")
    maker.kill()
    maker.wait()
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: gone(int(pid)), "it goes on")


def test_a_folder_called_edgevlm_where_it_stands_is_not_the_package(jobs, tmp_path):
    for name in ("edgevlm", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not me')")
    assert call(jobs, "echo", {}, tmp_path)["request"] == {}


def test_edgevlm_is_that_of_the_caller_and_not_installed(jobs, tmp_path, monkeypatch):
    """Another edgevlm in the interpreter's reach is not taken."""
    other = tmp_path / "other" / "edgevlm"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise RuntimeError('the other one')")
    paths = os.pathsep.join((str(other.parent), os.environ["PYTHONPATH"]))
    monkeypatch.setenv("PYTHONPATH", paths)
    assert call(jobs, "echo", {"a": 1}, tmp_path)["request"] == {"a": 1}


def test_the_other_side_imports_nothing_heavy(jobs, tmp_path):
    """A tool's environment may have neither pydantic nor filelock nor onnx."""
    code = (
        "import sys\n"
        "import edgevlm.compiler.workshop.tether, edgevlm.compiler.errors\n"
        "import edgevlm.compiler.workshop.proof\n"
        "heavy = ('pydantic', 'filelock', 'onnx', 'onnx_ir', 'numpy', 'packaging')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_reply_survives_as_json(jobs, tmp_path):
    """What JSON makes of a request is what arrives, so that both interpreters agree on it."""
    asked = {"tuple": (1, 2), "keys": {1: "a"}}
    assert call(jobs, "echo", asked, tmp_path)["request"] == json.loads(json.dumps(asked))
