"""Write a folder so that a reader sees the old one or the new one, never a half.

The new folder is built beside the target under a name no tool opens, flushed to disk, and then put
in place by one rename. Where a folder is replaced, Linux exchanges the two names in one step
(renameat2, RENAME_EXCHANGE); elsewhere the old one is moved aside and moved back on failure.

A draft is locked (flock) while its maker lives, and the kernel lets go of the lock of a process
that is killed. So the next compile to the same output can tell a leftover from a neighbour's draft.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.signals import signals_wait

__all__ = ["atomic_file", "atomic_folder", "check_parent", "check_target", "disk_fault"]

_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_MAX_MANIFEST_BYTES = 16 * 2**20


def check_target(target: Path, force: bool) -> None:
    """Refuse early, before minutes of work.

    Raises EV310 (UsageFault): it exists and `force` is off, or is no bundle, or has no parent;
    EV311 (JobFault): its parent cannot be written to.
    """
    if target.absolute().name in ("", ".."):
        raise _in_the_way(target, "has no name of its own", "it must be a folder that can be made")
    if os.path.lexists(target):
        if not force:
            raise _in_the_way(
                target,
                "exists",
                "nothing is overwritten unasked",
                "choose another -o, or add --force",
            )
        if why := _foreign(target):
            raise _in_the_way(
                target, "cannot be replaced", f"{why}; --force replaces whole bundles only"
            )
    check_parent(target)


def check_parent(target: Path) -> None:
    """The folder that a file or folder is to be made in. Raises EV310 (none), EV311 (read-only)."""
    parent = target.absolute().parent
    if not parent.is_dir():
        raise _in_the_way(
            target,
            "has no parent",
            f"{parent} is no folder",
            f"mkdir -p {shlex.quote(str(parent))}",
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise disk_fault(target, PermissionError(errno.EACCES, f"{parent} cannot be written to"))


def _in_the_way(target: Path, what: str, why: str, fix: str = "choose another -o") -> UsageFault:
    return UsageFault("EV310", f"output {target} {what}", why, fix)


def _foreign(target: Path) -> str | None:
    """Why `target` may not be replaced: whatever a slip could cost besides a bundle of ours."""
    if target.is_symlink() or not target.is_dir():
        return "it is a link" if target.is_symlink() else "it is a file"
    if Path.cwd().is_relative_to(target.resolve()):
        return "it holds the folder you are in"
    if not any(target.iterdir()):
        return None
    try:
        with (target / "manifest.json").open("rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
        listed = set(manifest["files"]) if {"schema", "edgevlm"} <= set(manifest) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = None
    if listed is None:
        return "it has no manifest.json of edgevlm"
    present = {
        str(p.relative_to(target)) for p in target.rglob("*") if p.is_symlink() or p.is_file()
    }
    more = sorted(present - listed - {"manifest.json", "record.json", "SHA256SUMS"})
    return f"it holds {more[0]}, which is not part of the bundle" if more else None


@contextlib.contextmanager
def atomic_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill; on a clean exit it becomes `target`, on any other it goes.

    Raises EV310 (target in the way, also when it appeared meanwhile), EV311 (disk full, no
    permission).
    """
    check_target(target, force)
    target = target.absolute()
    draft = target.with_name(f".{target.name}.draft-{os.getpid()}-{secrets.token_hex(4)}")
    with contextlib.ExitStack() as held:
        held.callback(_remove, draft)
        try:
            with _locked(target.parent):
                _sweep(target)
                check_target(target, force)  # an old bundle may have come back
                draft.mkdir()
                held.enter_context(_locked(draft))
            yield draft
            _flush(draft)
            with _locked(target.parent):
                check_target(target, force)
                _put(draft, target)
            _sync(target.parent)
        except OSError as error:
            raise disk_fault(target, error) from error


def atomic_file(target: Path, data: bytes) -> None:
    """Replace one file: a reader sees the old bytes or the new ones. Raises EV311.

    The caller holds a lock of its own; a draft that is left behind has that name with `.part`.
    """
    draft = target.with_name(f".{target.name}.part")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # x: never through a link that somebody laid there
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise disk_fault(target, error) from error


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the folder's lock; yields whether we have it. A file system without locks says no."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        have = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            have = False
        yield have
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    """Remove what killed compiles left; put back an old bundle that was set aside."""
    for left in list(target.parent.iterdir()):
        if not left.name.startswith(f".{target.name}.draft-") or left.is_symlink():
            continue
        with contextlib.suppress(OSError), _locked(left, wait=False) as dead:
            if dead and left.name.endswith(".old") and not os.path.lexists(target):
                left.rename(target)
            elif dead:
                shutil.rmtree(left, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Delete a folder; signals wait until it is done, so that a second Ctrl-C leaves no half."""
    with signals_wait():
        shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(draft: Path, target: Path) -> None:
    """One step where the kernel has it; the parent's lock keeps other compiles away."""
    if not os.path.lexists(target):
        if not _rename(draft, target, _RENAME_NOREPLACE):
            draft.rename(target)
        return
    if _rename(draft, target, _RENAME_EXCHANGE):  # the draft's name is now the old bundle's
        return
    aside = draft.with_name(draft.name + ".old")
    target.rename(aside)
    try:
        draft.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    _remove(aside)


def _rename(a: Path, b: Path, flag: int) -> bool:
    """renameat2; False where kernel or file system lacks it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if not rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), flag):
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(b))


def disk_fault(target: Path, error: OSError) -> JobFault:
    """EV311 for what the operating system said about writing `target`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    why = "the disk is full" if full else f"{type(error).__name__}: {error.strerror or error}"
    parent = shlex.quote(str(target.absolute().parent))
    return JobFault(
        "EV311",
        f"{target.name} could not be written",
        f"{why}; nothing was changed",
        f"df -h {parent}  then free some space" if full else f"ls -ld {parent}",
    )
