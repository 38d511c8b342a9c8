"""One process of another interpreter: its words in a file, its time limited, its group ended whole.

It leads a session of its own. So Ctrl-C reaches us alone, and whatever ends our block (an error, a
signal, a time-out) ends it with all that it started; where we are killed, its tether does
(tether.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

__all__ = ["Ended", "end_child", "last_lines", "run_child", "started"]

_LOOK_S = 0.2  # between two looks at what it said
_TAIL_BYTES = 64 * 2**10
_MOST_LINES = 60


@dataclass(frozen=True)
class Ended:
    """`status`: as of Popen, negative for a signal; None: its time was up. `said`: last lines."""

    status: int | None
    said: tuple[str, ...]
    within_s: float

    @property
    def how(self) -> str:
        """How it ended, as a sentence without a subject of its own."""
        if self.status is None:
            return f"it was not done within {self.within_s:.0f} s"
        if self.status < 0:
            return f"it was ended by {_signal_name(-self.status)}"
        return f"it ended with status {self.status}"


def run_child(
    call: Sequence[str | Path],
    *,
    within_s: float,
    log: Path,
    out: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end, or to the end of its time.

    log: a file for stderr, and for stdout where `out` names none. on_line: told every line of the
    log as it comes.
    """
    heard = _Hearing(log, on_line)
    with contextlib.ExitStack() as files:
        errors = files.enter_context(log.open("wb"))
        output = files.enter_context(out.open("wb")) if out else errors
        with started(call, stdout=output, stderr=errors, cwd=cwd, env=env) as child:
            status = _wait(child, monotonic() + within_s, heard)
    heard.listen()
    return Ended(status, last_lines(log), within_s)


@contextlib.contextmanager
def started(call: Sequence[str | Path], **how: object) -> Iterator[subprocess.Popen[bytes]]:
    """The process, ended with the block; standard input is its tether, or ours to write to."""
    child = subprocess.Popen(
        list(map(str, call)), stdin=subprocess.PIPE, start_new_session=True, **how
    )
    try:
        yield child
    finally:
        end_child(child)


def end_child(child: subprocess.Popen[bytes]) -> None:
    """With its whole group; what has ended by itself is left in peace."""
    with contextlib.suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):
                pipe.close()
    child.wait()


def last_lines(log: Path) -> tuple[str, ...]:
    """The end of what was said, without empty lines; bytes that are no text are shown as such."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read(_TAIL_BYTES).decode("utf-8", "backslashreplace")
    lines = [line.strip()[:500] for line in text.splitlines()]
    return tuple(line for line in lines if line)[-_MOST_LINES:]


def _wait(child: subprocess.Popen[bytes], until: float, heard: _Hearing) -> int | None:
    while (left := until - monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(min(_LOOK_S, left))
        heard.listen()
    return None


class _Hearing:
    """Hands on the whole lines of a growing file."""

    def __init__(self, log: Path, on_line: Callable[[str], None] | None) -> None:
        self._log, self._on_line, self._at, self._rest = log, on_line, 0, b""

    def listen(self) -> None:
        if self._on_line is None:
            return
        with self._log.open("rb") as file:
            file.seek(self._at)
            *whole, self._rest = (self._rest + file.read()).split(b"\n")
            self._at = file.tell()
        for line in whole:
            self._on_line(line.decode("utf-8", "backslashreplace").strip())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
