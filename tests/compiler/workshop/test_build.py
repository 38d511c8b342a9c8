"""Environments made by the real venv and pip, of toy wheels: whole, once, or not at all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from micro.toys import toy_tools

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop import build
from edgevlm.compiler.workshop.build import make
from edgevlm.compiler.workshop.home import Environment, environment_of
from edgevlm.compiler.workshop.interpreter import interpreter_for
from edgevlm.compiler.workshop.job import run_job

#: `make(toy)` in a process of its own, which says each stage as it begins
MAKE = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
from micro.toys import toy_tools
from edgevlm.compiler.workshop import build
from edgevlm.compiler.workshop.build import make
from edgevlm.compiler.workshop.job import ROOT
made = make(toy_tools()["toy"], lambda stage: print(stage, flush=True))
print(json.dumps({"new": made.new, "told": made.told}), flush=True)
"""
TESTS = Path(__file__).parents[2]


def making() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(TESTS)], stdout=subprocess.PIPE, text=True
    )


def left(home: Path) -> list[str]:
    """What a failure left, but for locks."""
    return [path.name for path in home.iterdir() if path.suffix != ".lock"]


def test_it_is_whole_and_usable_and_a_second_call_is_at_once(made_toy, tmp_path):
    made = make(toy_tools()["toy"])
    assert not made.new and made.seconds < 1
    assert made.environment.folder.parent == made_toy
    assert made.told["packages"] | {"toyfirst": "1.0", "toytool": "1.0"} == made.told["packages"]
    files = [p for p in made.environment.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    assert 0 <= size - made.told["bytes"] <= 1e5  # byte code and the stamp came later
    run_job("edgevlm.compiler.workshop.proof:run", {"imports": ["toytool"]}, what="import",
            tool="toy", folder=tmp_path, within_s=60)  # fmt: skip


def test_what_is_made_does_not_see_this_environment(made_toy, tmp_path, monkeypatch):
    """Neither by PYTHONPATH nor by inheritance: numpy is here and not there."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with pytest.raises(JobFault, match="EV372") as told:
        run_job("edgevlm.compiler.workshop.proof:run", {"imports": ["numpy"]}, what="import",
                tool="toy", folder=tmp_path, within_s=60)  # fmt: skip
    assert "No module named 'numpy'" in told.value.why


def test_two_at_the_same_time_make_one_and_what_a_killed_call_left_goes(toys):
    place = environment_of(toy_tools()["toy"])
    (place.folder / "bin").mkdir(parents=True)
    (place.folder / "bin" / "python").symlink_to(sys.executable)
    (place.folder / "half").write_text("a wheel that was cut off")
    both = [making(), making()]
    said = [child.communicate(timeout=120)[0].splitlines() for child in both]
    assert [child.returncode for child in both] == [0, 0]
    new = [json.loads(lines[-1])["new"] for lines in said]
    assert sorted(new) == [False, True]
    # a fast machine may have made it before the other asked
    assert len(said[new.index(False)]) == 1 or "waiting" in said[new.index(False)][0]
    assert interpreter_for("toy").python.is_relative_to(toys)
    assert not (place.folder / "half").exists()


def test_no_network_is_said_and_leaves_nothing(toys, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    stages = []
    with pytest.raises(JobFault, match="EV371 the environment of missing") as told:
        make(toy_tools()["missing"], stages.append)
    assert "pip install toyghost==9.9: a package index was not reached" in told.value.why
    assert "No matching distribution found for toyghost==9.9" in told.value.why
    assert "edgevlm doctor --install missing" in told.value.fix
    assert stages == ["virtual environment", "toyfirst==1.0", "toyghost==9.9"]
    assert left(toys) == []


def test_what_cannot_be_imported_is_no_environment(made_toy, tmp_path):
    """The last step of all: here of an environment that is whole."""
    place = environment_of(toy_tools()["toy"])
    wanting = Environment(place.tool.model_copy(update={"proof": ["toynowhere"]}), place.folder)
    with pytest.raises(JobFault, match="EV371") as told:
        build._proved(wanting, tmp_path)
    assert "cannot be used: ModuleNotFoundError: No module named 'toynowhere'" in told.value.why


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_call_that_is_stopped_leaves_nothing_that_is_used(toys, monkeypatch, number):
    """pip hangs at an index that takes calls and never answers, until its maker is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", address)
        child = making()
        silent.settimeout(60)
        asking, _ = silent.accept()  # pip is at work
        with asking:
            child.send_signal(number)
            assert child.wait(30) != 0
            asking.settimeout(30)
            while asking.recv(4096):  # closed from there: pip is gone as well
                pass
    child.stdout.close()
    place = environment_of(toy_tools()["toy"])
    assert place.ready() is None
    # a signal that Python does not hear tidies nothing up; the next call does
    assert left(toys) == ([] if number == signal.SIGINT else [place.folder.name])


@pytest.mark.parametrize(
    ("name", "why"),
    [("afar", "Plan9 pdp11; this is"), ("huge", "MB are free in")],
)
def test_a_machine_that_cannot_have_it_is_told_before_anything_is_made(toys, name, why):
    with pytest.raises(JobFault, match="EV371") as told:
        make(toy_tools()[name])
    assert why in told.value.why and left(toys) == []


def test_another_python_or_an_old_system_is_told(toys):
    toy = toy_tools()["toy"]
    with pytest.raises(JobFault, match=r"EV371 .* Python >=4; this is 3\."):
        make(toy.model_copy(update={"python": ">=4"}))
    with pytest.raises(JobFault, match=r"EV371 .* want glibc 99.0; this system has 2\."):
        make(toy.model_copy(update={"glibc": "99.0"}))


def test_a_place_that_cannot_be_written_is_told(toys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEVLM_TOOLS", str(tmp_path / "file" / "tools"))
    with pytest.raises(JobFault, match=r"EV371 .*Not a directory"):
        make(toy_tools()["toy"])


def test_pip_is_not_led_elsewhere(made_toy):
    """It was made under PIP_TARGET, PIP_PREFIX and PIP_USER: see conftest."""
    assert [path.name for path in made_toy.parent.iterdir()] == ["tools"]


def test_who_waits_for_another_can_be_stopped(toys):
    from filelock import FileLock

    place = environment_of(toy_tools()["toy"])
    toys.mkdir(parents=True)
    with FileLock(place.lock):
        child = making()
        assert child.stdout.readline().strip() == "another edgevlm makes it; waiting"
        child.send_signal(signal.SIGINT)
        assert child.wait(20) != 0
    child.stdout.close()
    assert not place.folder.exists()


def test_the_stages_of_a_thread_are_its_own(made_toy):
    """`make` takes no signal handlers, so a thread may call it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(make(toy_tools()["toy"]).new))
    start = time.monotonic()
    thread.start()
    thread.join(20)
    assert found == [False] and time.monotonic() - start < 20
