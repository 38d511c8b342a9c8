"""Write a folder so that a reader sees the old one or the new one, never a half.

The new folder is built beside the target under a name no tool opens, flushed to disk, and then put
in place by one rename. Where a folder is replaced, Linux exchanges the two names in one step
(renameat2, RENAME_EXCHANGE); elsewhere the old one is moved aside and moved back on failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault

__all__ = ["atomic_folder", "check_target"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_target(target: Path, force: bool) -> None:
    """Refuse early: EV310 if the target exists and `force` is off, or its parent cannot be used."""
    if target.exists() or target.is_symlink():
        if not force:
            raise UsageFault(
                "EV310",
                f"output {target} exists",
                "nothing is overwritten unasked",
                "choose another -o, or add --force",
            )
        if target.is_symlink() or not target.is_dir() or not _looks_ours(target):
            raise UsageFault(
                "EV310",
                f"output {target} is not a bundle",
                "--force replaces bundles only, so that a slip costs nothing else",
                "choose another -o",
            )
    parent = target.absolute().parent
    if not parent.is_dir():
        raise UsageFault(
            "EV310",
            f"output folder {target} has no parent",
            f"{parent} does not exist",
            f"mkdir -p {parent}",
        )


def _looks_ours(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() or not any(folder.iterdir())


@contextlib.contextmanager
def atomic_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill; on a clean exit it becomes `target`, on any other it goes.

    Raises EV310 (target in the way), EV311 (disk full, no permission).
    """
    check_target(target, force)
    target = target.absolute()
    _sweep(target)
    draft = target.with_name(f".{target.name}.draft-{os.getpid()}")
    try:
        draft.mkdir()
        yield draft
        _flush(draft)
        _put(draft, target)
    except OSError as error:
        raise _disk(target, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove drafts of compiles that were killed; one that still runs keeps its own."""
    for left in target.parent.glob(f".{target.name}.draft-*"):
        pid = left.name.rpartition("-")[2]
        if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    if _exchange(draft, target):  # the old bundle now has the draft's name and is removed with it
        return
    aside = draft.with_name(draft.name + ".old")
    target.rename(aside)
    try:
        draft.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return not rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)


def _disk(target: Path, error: OSError) -> JobFault:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = "the disk is full" if full else f"{type(error).__name__}: {error.strerror or error}"
    return JobFault(
        "EV311",
        f"bundle {target.name} could not be written",
        f"{why}; nothing was changed",
        "df -h .  then free some space" if full else f"ls -ld {target.parent}",
    )
