"""The tensors of the goldens, an archive of unknown origin: bounded, and without objects in it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import JobFault

__all__ = ["Tensors"]

MAX_BYTES = 8 * 2**30  # of all tensors, unpacked
BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Tensors:
    """Read when asked for, one by one. Raises EV357 for what cannot be read.

    "0/pixel_values", "0/before", "0/after": golden 0; "part/ROLE/in/NAME" and "part/ROLE/out/NAME":
    one call of a part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as packed:
                size = sum(entry.file_size for entry in packed.infolist())
            if size > MAX_BYTES:
                raise ValueError(f"it unpacks to {size} bytes")
            self._packed = np.load(path, allow_pickle=False)
        except BROKEN as error:
            raise self._broken(error) from error

    def __contains__(self, name: str) -> bool:
        return name in self._packed.files

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._packed[name])
        except BROKEN as error:
            raise self._broken(error) from error

    def of_part(self, role: str, side: str) -> dict[str, np.ndarray]:
        """Inputs (side "in") or outputs ("out") of the call of a part; {} where none was kept."""
        start = f"part/{role}/{side}/"
        names = [name for name in self._packed.files if name.startswith(start)]
        return {name[len(start) :]: self[name] for name in names}

    def _broken(self, error: BaseException) -> JobFault:
        return JobFault(
            "EV357",
            f"{self.path} holds no tensors that can be read",
            str(error)[:300] or type(error).__name__,
            "copy the whole bundle again",
        )
