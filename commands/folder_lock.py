"""One job at a time in an output folder; the kernel lets go of the lock of a process that dies."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from edgevlm.compiler.atomic import disk_fault
from edgevlm.compiler.errors import JobFault

__all__ = ["LOCK", "lock_folder"]

LOCK = ".lock"


def lock_folder(folder: Path, what: str) -> FileLock:
    """The folder, made if it is not there, and its lock, held. Raises EV311, EV313.

    what: the kind of job, such as "sweep".
    """
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise JobFault(
            "EV313",
            f"another {what} is at work in {folder}",
            "two at once would spoil each other's files and times",
            "wait for it, or give this one a folder of its own: -o OTHER",
        ) from None
    except OSError as error:
        raise disk_fault(folder, error) from error
    return lock
