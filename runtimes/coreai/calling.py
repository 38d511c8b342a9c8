"""Core AI's Python API is asynchronous; its callers here are not.

One thread of the process runs an event loop, so that a call may be made from a notebook, whose own
thread has a loop already, and Ctrl-C ends the waiting whatever Core AI is doing.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["wait_for"]

Result = TypeVar("Result")
#: seconds that threads of Core AI are given to let go of what they returned before Python ends; one
#: that wants Python's lock after that aborts the process (5 % of those that ended behind a call)
LEAVE_S = 0.1


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
    atexit.register(time.sleep, LEAVE_S)
    threading.Thread(target=loop.run_forever, name="coreai", daemon=True).start()
    return loop
