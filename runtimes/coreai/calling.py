"""Core AI's Python API is asynchronous; its callers here are not.

One thread of the process runs an event loop, so that a call may be made from a notebook, whose own
thread has a loop already, and Ctrl-C ends the waiting whatever Core AI is doing.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["wait_for"]

Result = TypeVar("Result")


def wait_for(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What it returns or raises."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid()))
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@functools.cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """Of this process: a thread does not go along when it forks."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="coreai", daemon=True).start()
    return loop
