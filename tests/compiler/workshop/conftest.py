"""Toys in place of the tools, folders of their own, and functions for a job to call.

toys            `tools()` gives the toys; pip sees their wheels alone; a fresh $EDGEVLM_TOOLS
made_toy        the same, with the environment of `toy` made once a session; not to be spoiled
jobs            module `workshop_jobs` of the functions below, importable in this interpreter's jobs
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from micro.toys import put_toys, toy_tools, toy_wheels

from edgevlm.compiler.workshop.build import make
from edgevlm.compiler.workshop.interpreter import Interpreter

JOBS = """
import os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
from edgevlm.compiler.errors import JobFault, UsageFault

def echo(request, folder):
    print("noise on stdout")
    (folder / "seen.txt").write_text(str(Path.cwd() == folder))
    return {"request": request, "modules": sorted(m for m in ("onnx", "torch") if m in sys.modules)}

def fault(request, folder):
    kind = UsageFault if request["usage"] else JobFault
    raise kind("EV303", "node 'a'", "line one\\nline two", "do b")

def vendor(request, folder):
    print("something useful", file=sys.stderr)
    error = ValueError("tensor has 5 dimensions")
    error.add_note("part vision")
    raise error

def leave(request, folder):
    print("the last word")
    sys.exit(3)

def crash(request, folder):
    print("about to fall", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def sleeper(request, folder):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "pids.txt").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)

def unspeakable(request, folder):
    return {"array": np.zeros(2)}

def rude(request, folder):
    (Path(sys.argv[-1])).write_text("[1, 2")
    os._exit(0)

def open_sums(request, folder):
    if request.get("refuse"):
        raise JobFault("EV304", "a part", "it is broken", "compile again")
    print("noise before any frame")
    def answer(method, arrays):
        print("noise in a call")
        if method == "sleep":
            sleeper(request, folder)
        if method == "crash":
            crash(request, folder)
        if method == "fault":
            raise JobFault("EV307", "a part", "bad input", "another")
        if method == "object":
            return {"a": np.array([None])}
        if method == "garbage":
            os.write(int(arrays["fd"]), b"this is no frame at all, is it?")
        return {name: array + array for name, array in arrays.items()}
    return answer
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, wheels: Path, tmp_path: Path) -> Path:
    home = tmp_path / "tools with a space"
    put_toys(monkeypatch, wheels, home)
    return home


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    home = tmp_path_factory.mktemp("made") / "tools"
    with pytest.MonkeyPatch.context() as patch:
        put_toys(patch, wheels, home)
        # settings for other environments than this one, which must not lead pip elsewhere
        for name in ("PIP_TARGET", "PIP_PREFIX"):
            patch.setenv(name, str(home.with_name(name)))
        patch.setenv("PIP_USER", "1")
        make(toy_tools()["toy"])
    return home


@pytest.fixture
def made_toy(monkeypatch: pytest.MonkeyPatch, wheels: Path, toy_home: Path) -> Path:
    put_toys(monkeypatch, wheels, toy_home)
    return toy_home


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Interpreter:
    """This interpreter, with workshop_jobs in reach of its jobs."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "workshop_jobs.py").write_text(JOBS)
    beside = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), *filter(None, beside))))
    return Interpreter("here", Path(sys.executable), own=True)
