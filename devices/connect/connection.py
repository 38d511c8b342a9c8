"""One shell line on a device, whatever carries it there.

A client such as ssh or adb ends with statuses of its own, which look like those of the line that it
carried. So the shell there says at the end how the line went, on stderr; where that is missing the
link broke on the way, and nothing that came is trusted to be whole. What a login prints before the
line begins (a greeting in somebody's .bashrc) is not taken for its output.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import IO, ClassVar, Literal

__all__ = ["MOST_LINE", "Connection", "LinkLost", "Reply"]

MOST_BYTES = 64 * 2**20  # of one reply
MOST_LINE = 2**16  # bytes of a line that is read as one
STILL_S = 60.0  # without a byte either way, where the client does not notice by itself
SAID = 2000  # characters of a client's complaint that are kept


class LinkLost(Exception):
    """The line did not come to its end.

    kind: `away` may be there again in a moment, `unknown` is no such device, `refused` answers and
    does not let us in.
    """

    def __init__(self, why: str, kind: Literal["away", "unknown", "refused"] = "away") -> None:
        self.why, self.kind = why, kind
        super().__init__(why)


@dataclass(frozen=True)
class Reply:
    """What a line printed, and its exit status there."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")


class Connection(ABC):
    """A way to one device. Every line is a process of its own, so nothing has to be kept open."""

    kind: ClassVar[str]  # of address: ssh, adb
    home: ClassVar[str]  # where our folder goes, as its shell says it

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def argv(self, line: str) -> list[str]:
        """The command of this machine that hands `line` to a shell there."""

    @abstractmethod
    def complaint(self, said: str) -> LinkLost:
        """What the client's last words mean."""

    def run(self, line: str, feed: Iterable[bytes] = (), still_s: float = STILL_S) -> Reply:
        """Run `line` with `feed` as its stdin. Raises LinkLost."""
        with self._child(line, still_s) as (child, beat, errors, mark):
            writer = threading.Thread(target=_write, args=(child.stdin, feed, beat), daemon=True)
            writer.start()
            out = bytearray()
            while piece := child.stdout.read1(65536):
                beat()
                out += piece
                if len(out) > MOST_BYTES:
                    raise LinkLost(f"it printed more than {MOST_BYTES // 2**20} MB", "refused")
            child.wait()
            writer.join()
            status, said = self._ended(errors, mark)
        return Reply(status, bytes(out).partition(f"{mark}\n".encode())[2], said)

    @contextlib.contextmanager
    def open(self, line: str, within_s: float | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """A line that goes on while its pipes are used; ended with the block, or `within_s`."""
        mark = _mark()
        child = self._popen(f"echo {mark}; {line}", subprocess.DEVNULL)
        alarm = threading.Timer(within_s or 0.0, _end, (child,))
        if within_s:
            alarm.start()
        try:
            while (said := child.stdout.readline(MOST_LINE)) and said.strip() != mark.encode():
                pass
            yield child
        finally:
            alarm.cancel()
            _end(child)

    def _popen(self, line: str, errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self.argv(f"exec sh -c {shlex.quote(line)}"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is ours to tell: what runs there is ended first
            )
        except OSError as error:
            raise LinkLost(f"{error.filename}: {error.strerror}", "unknown") from error

    @contextlib.contextmanager
    def _child(self, line: str, still_s: float) -> Iterator[tuple]:
        mark = _mark()
        with tempfile.TemporaryFile() as errors:
            child = self._popen(f"echo {mark}; ( {line}\n); echo {mark}=$? >&2", errors)
            watch = _Watch(child, still_s)
            try:
                yield child, watch.beat, errors, mark
            finally:
                watch.stop()
                _end(child)

    def _ended(self, errors: IO[bytes], mark: str) -> tuple[int, str]:
        errors.seek(0)
        said = errors.read(MOST_BYTES).decode("utf-8", "replace")
        found = re.search(rf"^{mark}=(\d+)\s*$", said, re.MULTILINE)
        if found is None:
            raise self.complaint(said[-SAID:].strip())
        return int(found[1]), said[: found.start()].strip()


def _mark() -> str:
    return f"line-{secrets.token_hex(8)}"


class _Watch:
    """Ends a client through which nothing has come for a while."""

    def __init__(self, child: subprocess.Popen[bytes], still_s: float) -> None:
        self._child, self._still_s, self._last = child, still_s, monotonic()
        self._done = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def beat(self) -> None:
        self._last = monotonic()

    def stop(self) -> None:
        self._done.set()

    def _look(self) -> None:
        while not self._done.wait(min(1.0, self._still_s / 4)):
            if monotonic() - self._last > self._still_s:
                _end(self._child)
                return


def _write(pipe: IO[bytes], feed: Iterable[bytes], beat: Callable[[], None]) -> None:
    with contextlib.suppress(OSError), pipe:  # a broken pipe: the reader tells how it ended
        for piece in feed:
            pipe.write(piece)
            beat()


def _end(child: subprocess.Popen[bytes]) -> None:
    """With all that it started, such as a jump host's client: they hold the other ends of pipes."""
    with contextlib.suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError, ValueError):
            pipe.close()
    child.wait()
