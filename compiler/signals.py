"""Signals that wait: for the few steps that must not be left in the middle."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["signals_wait"]

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Those that come meanwhile are raised behind it; in other threads than the main one, at once.

    Masking them in this thread would not do: another thread takes a signal just as well.
    """
    waiting: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            # None: not set from Python, cannot be put back
            if signal.getsignal(number) is not None:
                handlers[number] = signal.signal(number, lambda n, _: waiting.append(n))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in waiting:
        signal.raise_signal(number)
