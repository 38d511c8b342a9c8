"""Work that need not be done twice: exported checkpoints, kept by what they were made from.

A cache entry is a folder named by a key (a digest over every input of the work). It is built whole
or not at all, under a lock, so that two compiles of one checkpoint export it once. The oldest
entries go when there are more than `KEEP`. $EDGEVLM_CACHE moves the cache; removing it is harmless.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgevlm.compiler.atomic import atomic_folder

__all__ = ["KEEP", "cache_root", "cached_folder"]

#: entries of one kind; an exported 2-billion-parameter model takes 8 GB
KEEP = 4


def cache_root() -> Path:
    """$EDGEVLM_CACHE, else $XDG_CACHE_HOME/edgevlm, else ~/.cache/edgevlm."""
    if given := os.environ.get("EDGEVLM_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgevlm"


def cached_folder(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of `key`, made by `build(empty folder)` if it is not there yet.

    Where the cache cannot be written, the work is done in a temporary folder for this process.
    """
    home = cache_root() / kind
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK):
            raise PermissionError(home)
    except OSError:
        scratch = Path(tempfile.mkdtemp(prefix="edgevlm-"))
        build(scratch)
        return scratch
    from filelock import FileLock

    entry = home / key
    with FileLock(home / f"{key}.lock"):
        if not entry.is_dir():
            with atomic_folder(entry) as draft:
                build(draft)
            _forget(home)
        os.utime(entry)
    return entry


def _forget(home: Path) -> None:
    """Keep the `KEEP` entries used last."""
    entries = sorted(
        (p for p in home.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.stat().st_mtime,
        reverse=True,
    )
    for old in entries[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
        (home / f"{old.name}.lock").unlink(missing_ok=True)
