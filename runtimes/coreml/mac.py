"""A Mac that runs a program for us: this one, or one that is reached over ssh.

    run = over(Ssh("mini.local"))        or  this_mac()
    said(run, "compute_plan", ["M.mlpackage", "CPU_AND_NE"])   -> what the program printed

A way to a Mac is a function of a command and its stdin, so that a test can be one.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import resources

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.connection import Connection, Reply

__all__ = ["Run", "called", "over", "said", "this_mac", "unreadable"]

#: (command, stdin) -> its output and exit status
Run = Callable[[Sequence[str], bytes], Reply]

PYTHON = "python3"
LONGEST_S = 3600.0  # of one program: the Neural Engine's compiler may be quiet for minutes
#: exit status of our programs -> code, why
ENDS = {
    3: ("EV380", "it is no Mac; Core ML runs on macOS alone"),
    4: ("EV382", "it has no coremltools 9 for the Python that ran"),
    5: ("EV382", "no such iPhone is connected to it, unlocked and trusted"),
    6: ("EV382", "the function has states, which coremltools does not hand to an iPhone"),
}


def this_mac() -> Run:
    """Raises EV380 where this machine is none."""
    if sys.platform != "darwin":
        raise _needs_macos("this machine", f"it runs {sys.platform}")
    return _here


def over(connection: Connection) -> Run:
    """A Mac that a connection of edgevlm leads to."""

    def run(argv: Sequence[str], feed: bytes) -> Reply:
        return connection.run(shlex.join(argv), [feed] if feed else (), still_s=LONGEST_S)

    return run


def said(run: Run, name: str, arguments: Sequence[str]) -> bytes:
    """What a program of scripts/ printed there. Raises EV380, EV382."""
    text = (resources.files("edgevlm.runtimes.coreml") / "scripts" / f"{name}.py").read_bytes()
    reply = run([PYTHON, "-", *arguments], text)
    if reply.status in ENDS:
        code, why = ENDS[reply.status]
        if code == "EV380":
            raise _needs_macos(f"the machine that was asked for {name}", why)
        raise _failed(name, f"{why} {reply.err[-200:]}")
    if reply.status != 0:
        raise _failed(name, f"it ended with status {reply.status}: {reply.err[-500:].strip()}")
    return reply.out


def called(run: Run, argv: Sequence[str]) -> bytes:
    """What a tool of Xcode printed. Raises EV382."""
    reply = run(argv, b"")
    if reply.status != 0:
        why = f"it ended with status {reply.status}: {reply.err[-500:].strip()}"
        raise _failed(" ".join(argv[:3]), why)
    return reply.out


def unreadable(what: str, why: object) -> JobFault:
    """EV381, for what a tool of Apple printed that is not what it prints."""
    return JobFault(
        "EV381",
        f"{what} cannot be read",
        f"{why}",
        "run it again on the Mac with coremltools 9 or Xcode 16, and compare what it prints",
    )


def _here(argv: Sequence[str], feed: bytes) -> Reply:
    done = subprocess.run(
        list(argv), input=feed, capture_output=True, timeout=LONGEST_S, check=False
    )
    return Reply(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def _needs_macos(what: str, why: str) -> JobFault:
    return JobFault(
        "EV380",
        f"Core ML on {what}: it needs macOS",
        why,
        "name a Mac: ssh://user@mac; without one, the lint and the evaluator say what they can",
    )


def _failed(name: str, why: str) -> JobFault:
    return JobFault(
        "EV382",
        f"{name} failed on the Mac",
        why,
        "run it there by hand: pip install 'coremltools>=9.0', xcode-select --install",
    )
