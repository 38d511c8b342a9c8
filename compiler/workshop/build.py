"""Making the environment of a tool: whole or not at all, once, by the pip that the user has set up.

A venv holds its own path, so it cannot be built aside and moved into place. It is made where it
stays, under a lock, and `ready.json` is written last: what lacks it is half-made, is used by
nobody, and goes when the next one begins. pip is asked as it is configured (index, proxy, wheels
at hand); torch comes first and by itself.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgevlm.compiler.atomic import atomic_file
from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.compiler.workshop import pip_words, tether
from edgevlm.compiler.workshop.child import run_child
from edgevlm.compiler.workshop.home import Environment, environment_of
from edgevlm.compiler.workshop.interpreter import Interpreter
from edgevlm.compiler.workshop.job import run_in
from edgevlm.compiler.workshop.tools import Tool

__all__ = ["Made", "make"]

#: seconds for one call of pip; a slow line brings 700 MB in less
PIP_S = 3600.0
PROOF_S = 600.0
#: free disk wanted for each byte that stays: wheels are unpacked from copies
ROOM = 1.5
#: our own pip works for another environment; that is seconds faster than giving it one
_WITHOUT_PIP = ("--without-pip",) if find_spec("pip") else ()
# what would have pip install elsewhere, or see packages that are not there
_NOT_FOR_PIP = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV",
                "PYTHONPATH", "PYTHONHOME")  # fmt: skip


class Made(NamedTuple):
    """`new`: it was not there before."""

    environment: Environment
    told: dict[str, Any]
    new: bool
    seconds: float


def make(
    tool: Tool,
    begin: Callable[[str], None] = lambda stage: None,
    say: Callable[[str], None] = lambda text: None,
) -> Made:
    """The environment of `tool`, made if it is not there; two at a time make one.

    begin: told the name of each stage. say: told what takes its time meanwhile. Raises EV371.
    """
    start, place = perf_counter(), environment_of(tool)
    if told := place.ready():
        return Made(place, told, False, perf_counter() - start)
    try:
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        _check_machine(tool)
        with _locked(place, begin):
            if told := place.ready():  # by who held the lock
                return Made(place, told, False, perf_counter() - start)
            shutil.rmtree(place.folder, ignore_errors=True)
            _check_room(place)
            try:
                told = _built(place, begin, say)
            except BaseException:
                shutil.rmtree(place.folder, ignore_errors=True)
                raise
    except OSError as error:
        why = f"{error.filename or place.folder.parent}: {error.strerror or error}"
        raise _refused(tool, why, "export EDGEVLM_TOOLS=<a folder>") from error
    return Made(place, told, True, perf_counter() - start)


def _built(
    place: Environment, begin: Callable[[str], None], say: Callable[[str], None]
) -> dict[str, Any]:
    tool = place.tool
    with tempfile.TemporaryDirectory(prefix="edgevlm-tool-") as scratch:
        log = Path(scratch) / "log.txt"
        begin("virtual environment")
        call = [sys.executable, "-I", tether.__file__, "venv", *_WITHOUT_PIP, place.folder]
        ended = run_child(call, within_s=PROOF_S, log=log)
        if ended.status != 0:
            fix = "sudo apt-get install python3-venv, or see what python3 -m venv says"
            raise _refused(tool, f"no virtual environment: {' '.join(ended.said[-3:])}", fix)
        for wanted in (tool.first, [*tool.first, *tool.packages]):  # the second changes no pin
            begin(_named(wanted))
            ended = run_child(
                _pip(place, wanted), within_s=PIP_S, log=log, env=_environ(), on_line=_heavy(say)
            )
            if ended.status != 0:
                why = f"pip install {_named(wanted)}: {pip_words.reason(ended)}"
                raise _refused(tool, why, f"pip config list; then {tool.install}")
        begin("import " + ", ".join(dict.fromkeys(name.partition(".")[0] for name in tool.proof)))
        told = _proved(place, Path(scratch))
    told |= {"tool": tool.name, "pins": [*tool.first, *tool.packages], "bytes": _size(place.folder)}
    atomic_file(place.stamp, json.dumps(told, indent=1).encode())
    return told


def _proved(place: Environment, scratch: Path) -> dict[str, Any]:
    """What is installed there, after its modules have been imported, and edgevlm with them."""
    python = Interpreter(place.tool.name, place.python, own=False)
    request = {"imports": place.tool.proof}
    try:
        return run_in(
            python,
            "edgevlm.compiler.workshop.proof:run",
            request,
            what=f"import {', '.join(place.tool.proof)}",
            folder=scratch,
            within_s=PROOF_S,
        )
    except EdgeError as fault:
        why = f"what was installed cannot be used: {fault.why}"
        raise _refused(place.tool, why, "please report this, and your pip config list") from fault


def _pip(place: Environment, wanted: Sequence[str]) -> list[str | Path]:
    # no byte code for all of torch beforehand: that takes longer than the rest, and a first import
    # makes what is used
    words = ["--no-input", "--disable-pip-version-check", "install", "--no-compile"]
    words += ["--progress-bar", "off", *wanted]
    if _WITHOUT_PIP:  # -P and not -I: ours may be in the user's own site folder
        return [sys.executable, "-P", tether.__file__, "pip", "--python", place.python, *words]
    return [place.python, "-I", tether.__file__, "pip", *words]


def _environ() -> dict[str, str]:
    """Ours, without what would lead pip out of the environment."""
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_PIP}
    return kept | {"PIP_USER": "0"}


def _heavy(say: Callable[[str], None]) -> Callable[[str], None]:
    def hear(line: str) -> None:
        if told := pip_words.heavy_download(line):
            say(told)

    return hear


def _named(wanted: Sequence[str]) -> str:
    """torch, or what comes after it."""
    first, more = wanted[min(1, len(wanted) - 1)], len(wanted) - 2
    return f"{first} and {more} more" if more > 0 else first


def _locked(place: Environment, begin: Callable[[str], None]) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(place.lock)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        begin("another edgevlm makes it; waiting")
        return lock.acquire()


def _check_machine(tool: Tool) -> None:
    here = f"{platform.system()} {platform.machine()}"
    if here not in tool.machines:
        why = f"its packages exist for {', '.join(tool.machines)}; this is {here}"
        raise _refused(tool, why, "compile on such a machine; the bundle runs where it ran before")
    version = platform.python_version()
    if not SpecifierSet(tool.python).contains(version, prereleases=True):
        why = f"its packages exist for Python {tool.python}; this is {version}"
        raise _refused(tool, why, f"run edgevlm with Python {tool.python}")
    libc, found = platform.libc_ver()
    if tool.glibc and libc == "glibc" and Version(found) < Version(tool.glibc):
        why = f"its packages want glibc {tool.glibc}; this system has {found}"
        raise _refused(tool, why, "compile on a newer system")


def _check_room(place: Environment) -> None:
    wanted, parent = place.tool.mb * ROOM, place.folder.parent
    free = shutil.disk_usage(parent).free / 1e6
    if free < wanted:
        why = f"{free:.0f} MB are free in {parent}, about {wanted:.0f} MB are wanted"
        fix = "free some, or export EDGEVLM_TOOLS=<a folder on another disk>"
        raise _refused(place.tool, why, fix)


def _size(folder: Path) -> int:
    """Bytes of its files; links, such as those to Python, count nothing."""
    files = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files)


def _refused(tool: Tool, why: str, fix: str) -> JobFault:
    return JobFault("EV371", f"the environment of {tool.name} cannot be made", why, fix)
