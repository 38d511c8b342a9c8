"""Arrays that took long to make, on disk for later calls: files of one folder, within its bytes.

Unlike an entry of cache.py a file here may go at any time, and whoever wants it makes it anew: what
was not read or written for longest goes first, and nothing that this process has used, so that work
larger than the folder does not push itself out. A file is put in place whole, by a rename, and has
a checksum of each array (it is a zip of .npy, as numpy.savez writes it); one that is broken, or of
another key, is as if it were not there. So is a folder that cannot be written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from time import time

import numpy as np

__all__ = ["Arrays", "Shelf", "bytes_of"]

Arrays = Mapping[str, np.ndarray]


class Shelf:
    """of: what all of its keys go by as well, such as the model that everything here is made of."""

    def __init__(self, folder: Path, of: str, limit: int) -> None:
        self.folder, self.of, self.limit = folder, of, limit
        self.since = time()  # files used later are this process's, or a neighbour's at work

    def read(self, key: str) -> Arrays | None:
        """None where it is not here, or not whole."""
        file = self._file(key)
        try:
            with zipfile.ZipFile(file) as found:
                if sum(each.file_size for each in found.infolist()) > self.limit:
                    return None
            with np.load(file, allow_pickle=False) as found:
                arrays = {str(name): found[f"arr_{i}"] for i, name in enumerate(found["names"])}
            os.utime(file)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return arrays

    def write(self, key: str, arrays: Arrays) -> None:
        """Where there is room for it."""
        file = self._file(key)
        draft = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._room_for(bytes_of(arrays)):
                with draft.open("xb") as out:
                    np.savez(out, *arrays.values(), names=np.array(list(arrays)))
                draft.replace(file)
        except OSError:
            pass  # full, or not ours: made anew the next time
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        name = hashlib.sha256(f"{self.of}\n{key}".encode()).hexdigest()
        return self.folder / f"{name}.npz"

    def _room_for(self, size: int) -> bool:
        """Drafts that a killed process left go as all else does."""
        there = [(path.stat(), path) for path in self.folder.iterdir()]
        free = self.limit - sum(stat.st_size for stat, _ in there)
        for stat, path in sorted(there, key=lambda each: each[0].st_mtime):
            if free >= size or stat.st_mtime >= self.since:
                break
            path.unlink(missing_ok=True)
            free += stat.st_size
        return free >= size


def bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
