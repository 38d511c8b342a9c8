"""Workers of this machine: processes of their own, each with one model, fed a group at a time.

Ctrl-C is the parent's alone (the workers have it blocked): it ends them, and each removes the draft
it was at. A worker that dies, as one does that takes more memory than there is, costs the bundle it
was at; the others of its group go to a fresh worker. A worker whose parent was killed ends at its
next word to it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from edgevlm.commands.calling import DEBUG, Stopped
from edgevlm.commands.fleet_report import failed
from edgevlm.commands.fleet_work import THREADS, Group, derive_group
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.signals import signals_wait

__all__ = ["run_local"]

PARENTS = {signal.SIGINT, signal.SIGHUP}
GRACE_S = 10  # to remove a draft


def run_local(groups: Sequence[Group], jobs: int, cores: int) -> Iterator[dict[str, Any]]:
    """Rows as they come. With one job the work is done in this process."""
    if jobs == 1:
        with _heap_at_rest():
            for group in groups:
                yield from derive_group(group)
        return
    with _Pool(min(jobs, len(groups)), max(1, cores // jobs)) as pool:
        yield from pool.run(list(groups))


@contextlib.contextmanager
def _heap_at_rest() -> Iterator[None]:
    """Modules and what else is there now: no collection behind a pass need look at it again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    group: Group | None = None  # that it is at
    done: int = 0  # items of it


class _Pool:
    def __init__(self, size: int, threads: int) -> None:
        self.size, self.threads = size, threads
        self.workers: list[_Worker] = []

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE_S)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def run(self, waiting: list[Group]) -> Iterator[dict[str, Any]]:
        waiting.reverse()
        while waiting or any(w.group for w in self.workers):
            while waiting and (worker := self._idle()) is not None:
                worker.group, worker.done = waiting.pop(), 0
                with contextlib.suppress(OSError):  # it died in between: told below
                    worker.pipe.send(worker.group)
            for pipe in wait([w.pipe for w in self.workers if w.group]):
                worker = next(w for w in self.workers if w.pipe is pipe)
                try:
                    row = pipe.recv()
                except (EOFError, OSError):
                    row, rest = self._died(worker)
                    waiting += rest
                if row is None:
                    worker.group = None
                else:
                    worker.done += 1
                    yield row

    def _idle(self) -> _Worker | None:
        """One without work, a new one if there may be one more."""
        free = next((w for w in self.workers if w.group is None), None)
        if free is None and len(self.workers) < self.size:
            with signals_wait():  # or nobody would end a worker that is just being born
                free = _start(self.threads)
                self.workers.append(free)
        return free

    def _died(self, worker: _Worker) -> tuple[dict[str, Any], list[Group]]:
        """The row of what it was at, and what it had not begun."""
        self.workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        item, *rest = worker.group.items[worker.done :]
        code = worker.process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        fault = JobFault(
            "EV421",
            f"the process that derived {item.name!r} ended before it was done",
            f"{how}; a process that takes more memory than there is ends by SIGKILL",
            "the same command again with --jobs 1",
        )
        return failed(item, fault), [replace(worker.group, items=tuple(rest))] if rest else []


def _start(threads: int) -> _Worker:
    """A fresh interpreter; numpy reads its number of threads when it is imported."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    added = [name for name in THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    resource_tracker.ensure_running()  # which the first start would do: it unblocks SIGINT
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)  # a child keeps the mask
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        for name in added:
            del os.environ[name]
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Connection) -> None:
    """The whole life of a worker: groups in, rows out, None behind the last of a group."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    try:
        signal.signal(signal.SIGTERM, stop)
        os.dup2(2, 1)  # stdout is the report's
        if not os.environ.get(DEBUG):
            warnings.simplefilter("ignore")
            logging.lastResort = logging.NullHandler()
        with _heap_at_rest():
            while True:
                for row in derive_group(pipe.recv()):
                    pipe.send(row)
                pipe.send(None)
    except (Stopped, EOFError, BrokenPipeError):
        return
