"""Ctrl-C while TensorRT runs: noted at once, acted on when TensorRT has returned.

TensorRT calls back into Python, to log and to tell of progress. An exception that is raised in such
a call, as KeyboardInterrupt would be, ends the process in the middle of whatever it does.
"""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Any

__all__ = ["Unbroken", "progress_monitor"]


class Unbroken:
    """`with Unbroken() as keeper:` raises KeyboardInterrupt at its end if Ctrl-C came within.

    `keeper.asked` is what a progress monitor looks at. A second Ctrl-C ends the process with
    status 130 and without ado; files are written beside their places, so none is left half done.
    """

    asked = False

    def __enter__(self) -> Unbroken:
        self._old: Any = None
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.asked:
            os._exit(130)
        self.asked = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)
        if self.asked and kind is None:
            raise KeyboardInterrupt


def progress_monitor(trt: Any, keeper: Unbroken) -> Any:
    """What makes a build end early after Ctrl-C, or None: TensorRT has it from 10 on."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: Any, num_steps: int) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not keeper.asked  # false ends the build

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
