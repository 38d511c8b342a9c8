"""One call of a function of ours in the interpreter of a tool.

    run_job("edgevlm.runtimes.x.lower:run", {"target": "y"}, tool="ethos", ...) -> {"delegates": 1}

The function is `run(request: dict, folder: Path) -> dict`; it stands in `folder` and finds what it
works on there. A JobFault or UsageFault of its own arrives as if it had been raised here. Whatever
else happens there (an error of a vendor's package, a crash, no end) is three lines, with the last
that was said.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edgevlm
from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault
from edgevlm.compiler.workshop import inside
from edgevlm.compiler.workshop.child import run_child
from edgevlm.compiler.workshop.interpreter import Interpreter, interpreter_for

__all__ = ["ROOT", "fault_told", "run_in", "run_job", "without_answer"]

ROOT = Path(edgevlm.__file__).resolve().parent
_MOST_BYTES = 64 * 2**20  # of a reply
_DEBUG = "EDGEVLM_DEBUG"


def run_job(
    function: str,
    request: Mapping[str, Any],
    *,
    what: str,
    tool: str,
    folder: Path,
    within_s: float,
) -> dict[str, Any]:
    """The reply of `function`, "package.module:name", to `request`; both are JSON.

    what: the work in a few words, for the error. folder: exists; the function's current folder.
    Raises EV302 (no such tool here), EV372 (it failed), EV373 (it gave no answer), and what it
    raised itself.
    """
    python = interpreter_for(tool)
    return run_in(python, function, request, what=what, folder=folder, within_s=within_s)


def run_in(
    python: Interpreter,
    function: str,
    request: Mapping[str, Any],
    *,
    what: str,
    folder: Path,
    within_s: float,
) -> dict[str, Any]:
    """The same, in an interpreter that has been chosen."""
    with tempfile.TemporaryDirectory(prefix="edgevlm-job-") as scratch:
        asked, told, log = (Path(scratch) / name for name in ("asked", "told", "log"))
        asked.write_text(json.dumps(request))
        call = [*python.argv, inside.__file__, "job", ROOT, function, asked, told]
        ended = run_child(call, within_s=within_s, log=log, cwd=folder, env=python.environ)
        if os.environ.get(_DEBUG):
            sys.stderr.write(log.read_text("utf-8", "backslashreplace"))
        answer = _read(told)
    if ended.status != 0:
        raise without_answer(what, python, ended.how, ended.said)
    if answer is None:
        raise without_answer(what, python, "its reply cannot be read", ended.said)
    if "done" in answer:
        return answer["done"]
    raise fault_told(what, python, answer)


def fault_told(what: str, python: Interpreter, answer: Mapping[str, Any]) -> EdgeError:
    """What the other side told of an error: one of ours as it was raised, any other as EV372."""
    fault = answer.get("fault")
    if isinstance(fault, dict) and {"code", "what", "why", "next"} <= set(fault):
        kind = UsageFault if fault.get("kind") == "UsageFault" else JobFault
        return kind(*(str(fault[key]) for key in ("code", "what", "why", "next")))
    return JobFault(
        "EV372",
        f"{what} failed in {python.where}",
        str(answer.get("error", "it says no more"))[:500],
        f"{_DEBUG}=1 shows all that was said; edgevlm doctor lists versions",
    )


def without_answer(what: str, python: Interpreter, why: str, said: Sequence[str]) -> JobFault:
    """A process that crashed, was ended, or left no reply that can be read."""
    words = f"; its last words: {' / '.join(said[-2:])[:400]}" if said else ""
    hungry = "; a killed process is most often one that took too much memory"
    return JobFault(
        "EV373",
        f"{what} gave no answer in {python.where}",
        why + words,
        f"{_DEBUG}=1 shows all that was said" + hungry * ("SIGKILL" in why),
    )


def _read(told: Path) -> dict[str, Any] | None:
    try:
        with told.open("rb") as file:
            answer = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("done", {}), dict):
        return None
    return answer if {"done", "fault", "error"} & set(answer) else None
