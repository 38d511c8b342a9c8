"""The other side of worker.py: answers calls until whoever asks is gone."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from edgevlm.compiler.workshop.tether import end_group
from edgevlm.compiler.workshop.wire import decode, encode

__all__ = ["serve"]


def serve(
    find: Callable[[str], Callable[..., Any]],
    told: Callable[[BaseException], dict[str, Any]],
    function: str,
    asked: str,
) -> None:
    """Frames come on standard input and go on what was standard output.

    Whatever prints, prints to the log instead. find: a function by its name. told: an error as the
    head of a frame.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.Queue[tuple[dict[str, Any], dict[str, Any]]] = queue.Queue()
    try:
        answer = find(function)(json.loads(Path(asked).read_text()), Path.cwd())
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        _write(out, encode(told(error), {}))
        return
    _write(out, encode({}, {}))
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    while True:
        head, arrays = calls.get()
        try:
            frame = encode({}, answer(head["method"], arrays))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            frame = encode(told(error), {})
        _write(out, frame)


def _listen(pipe: BinaryIO, calls: queue.Queue) -> None:
    """Also while a call is worked on, so that nobody goes on working for one who has left."""

    def read(size: int) -> bytearray:
        whole = bytearray(size)
        left = memoryview(whole)
        while left:
            got = pipe.readinto(left)
            if not got:
                end_group()
            left = left[got:]
        return whole

    while True:
        calls.put(decode(read))


def _write(out: BinaryIO, frame: Iterable[bytes | memoryview]) -> None:
    for part in frame:
        out.write(part)
    out.flush()
