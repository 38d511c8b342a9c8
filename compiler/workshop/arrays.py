"""Arrays in a file, for a job: an .npz that holds nothing but numbers."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import JobFault

__all__ = ["read_arrays", "write_arrays"]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises TypeError for an array of objects or text."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biuf":
            raise TypeError(f"array {name!r} is {np.asarray(array).dtype}")
    with zipfile.ZipFile(path, "w") as archive:  # np.savez takes no array called "file"
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Raises EV373 for a file that is missing, cut off, or holds something else than numbers."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                arrays[info.filename.removesuffix(".npy")] = array
    except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, str(error)[:300]) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise _unreadable(path, f"{name[:60]!r} is {array.dtype}, no array of numbers")
    return arrays


def _unreadable(path: Path, why: str) -> JobFault:
    fix = "run it again; df -h shows whether a disk is full"
    return JobFault("EV373", f"the arrays in {path.name} cannot be read", why, fix)
