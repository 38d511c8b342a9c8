"""A process in the interpreter of a tool that is kept, and answers calls with arrays.

    with open_worker("edgevlm.runtimes.x.run:open_parts", {...}, tool="coreai", ...) as worker:
        worker.call("decode", {"tokens": ids, "position": at}) -> {"logits": ...}

The function is `open(request, folder)` and gives `answer(method, arrays) -> arrays`. Arrays go
through pipes as they are (wire.py). A worker that failed to answer once is ended; one that is
forgotten ends when it is collected.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np

from edgevlm.compiler.workshop import inside
from edgevlm.compiler.workshop.child import Ended, end_child, last_lines
from edgevlm.compiler.workshop.interpreter import Interpreter, interpreter_for
from edgevlm.compiler.workshop.job import ROOT, fault_told, without_answer
from edgevlm.compiler.workshop.wire import BrokenFrame, decode, encode

__all__ = ["Worker", "open_worker"]

_PIECE = 2**20
_LAST_S = 2.0  # for a process whose pipe is closed to be gone


class _Silent(Exception):
    """Nothing more came, or nothing was taken; `late`: its time was up, else its pipe is closed."""

    def __init__(self, late: bool) -> None:
        self.late = late
        super().__init__()


def open_worker(
    function: str,
    request: Mapping[str, Any],
    *,
    what: str,
    tool: str,
    folder: Path,
    within_s: float,
) -> Worker:
    """Start it, and wait until `function` has given what answers.

    what, folder, and what is raised: as of run_job. within_s: for this, and for each call.
    """
    python = interpreter_for(tool)
    scratch = tempfile.TemporaryDirectory(prefix="edgevlm-worker-")
    asked = Path(scratch.name) / "asked"
    asked.write_text(json.dumps(request))
    with (Path(scratch.name) / "log").open("wb") as log:
        child = subprocess.Popen(
            [*python.argv, inside.__file__, "serve", str(ROOT), function, str(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=python.environ,
            start_new_session=True,
        )
    worker = Worker(child, scratch, python, what, within_s)
    try:
        worker._answer((), monotonic() + within_s)
    except BaseException:
        worker.close()
        raise
    return worker


class Worker:
    """Made by open_worker."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        scratch: tempfile.TemporaryDirectory,
        python: Interpreter,
        what: str,
        within_s: float,
    ) -> None:
        self._child, self._python, self._what, self._within_s = child, python, what, within_s
        self._log = Path(scratch.name) / "log"
        os.set_blocking(child.stdin.fileno(), False)
        self._close = weakref.finalize(self, _close, child, scratch)

    def call(
        self, method: str, arrays: Mapping[str, np.ndarray], within_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """What it answers. Raises EV372, EV373 (it is ended then), and what was raised there."""
        limit = within_s or self._within_s
        until = monotonic() + limit
        return self._answer(encode({"method": method}, arrays), until, limit)

    def close(self) -> None:
        """End it; a second time does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(
        self, asked: Iterable[Any], until: float, limit: float | None = None
    ) -> dict[str, np.ndarray]:
        """What it says to a frame that is asked, in pieces; () for the first, which nobody asks."""
        try:
            for piece in asked:
                self._write(memoryview(piece), until)
            head, arrays = decode(lambda size: self._read(size, until))
        except (OSError, ValueError, _Silent) as error:
            raise self._lost(error, limit or self._within_s) from None
        except BaseException:  # Ctrl-C in a frame, or between two: they would be mixed
            self.close()
            raise
        if head:
            raise fault_told(self._what, self._python, head)
        return arrays

    def _lost(self, error: Exception, limit: float) -> Exception:
        """It is ended. Why there is no answer: EV373."""
        if not self._close.alive:
            return without_answer(self._what, self._python, "it had been ended", ())
        late = isinstance(error, _Silent) and error.late
        why = Ended(None if late else _status(self._child), (), limit).how
        if isinstance(error, BrokenFrame):
            why = f"its reply cannot be read: {error}"
        said = last_lines(self._log)
        self.close()
        return without_answer(self._what, self._python, why, said)

    def _read(self, size: int, until: float) -> bytearray:
        whole = bytearray(size)
        left = memoryview(whole)
        pipe = self._child.stdout.fileno()
        while left:
            _ready(pipe, select.POLLIN, until)
            got = os.readv(pipe, [left[:_PIECE]])
            if not got:
                raise _Silent(late=False)
            left = left[got:]
        return whole

    def _write(self, left: memoryview, until: float) -> None:
        pipe = self._child.stdin.fileno()
        while left:
            _ready(pipe, select.POLLOUT, until)
            left = left[os.write(pipe, left[:_PIECE]) :]


def _ready(pipe: int, wanted: int, until: float) -> None:
    poll = select.poll()
    poll.register(pipe, wanted)
    if not poll.poll(max(0.0, until - monotonic()) * 1e3):
        raise _Silent(late=True)


def _status(child: subprocess.Popen[bytes]) -> int:
    try:
        return child.wait(_LAST_S)
    except subprocess.TimeoutExpired:
        return 0


def _close(child: subprocess.Popen[bytes], scratch: tempfile.TemporaryDirectory) -> None:
    end_child(child)
    scratch.cleanup()
