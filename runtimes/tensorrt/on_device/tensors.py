"""The tensors of the goldens, an archive of unknown origin: bounded, and without objects in it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import JobFault

__all__ = ["Tensors"]

MAX_BYTES = 8 * 2**30  # of all tensors, unpacked
NUMBERS = "fiub"  # kinds of numpy's dtypes
BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Tensors:
    """Read when asked for, one by one. Raises EV357 for what cannot be read.

    "0/pixel_values", "0/before", "0/after": golden 0; "0/logits": the host's of its first word,
    "0/choice/ROLE/NAME": the image tokens that it kept; "part/ROLE/in/NAME" and
    "part/ROLE/out/NAME": one call of a part.
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
            found = np.asarray(self._packed[name])
        except BROKEN as error:
            raise self._broken(error) from error
        return self._checked(name, found, NUMBERS)

    def _of_kind(self, name: str, kinds: str, rank: int) -> np.ndarray:
        return self._checked(name, self[name], kinds, rank)

    def _checked(
        self, name: str, found: np.ndarray, kinds: str, rank: int | None = None
    ) -> np.ndarray:
        """kinds: of numpy's dtypes. Raises EV357 for other ones, another rank, or no number."""
        if found.dtype.kind in kinds and rank in (None, found.ndim):
            return found
        raise self._broken(ValueError(f"{name} is {found.dtype} {list(found.shape)}"))

    def request(self, golden: int) -> tuple[np.ndarray, list[int], list[int]]:
        """Pixels [1,3,H,W], and the token ids in front of the image and behind it."""
        pixels = self._of_kind(f"{golden}/pixel_values", "f", 4)
        ids = (f"{golden}/{name}" for name in ("before", "after"))
        before, after = (self._of_kind(n, "iu", 1).tolist() if n in self else [] for n in ids)
        return pixels, before, after

    def first_logits(self, golden: int) -> np.ndarray | None:
        """The host's of the first word, [V]; None of a bundle that has them not."""
        name = f"{golden}/logits"
        return self._of_kind(name, "f", 2)[:1].reshape(-1) if name in self else None

    def choices(self, golden: int) -> dict[str, np.ndarray]:
        """ "ROLE/NAME" -> the image tokens that the host kept, in the order of choosing."""
        found = self._under(f"{golden}/choice/")
        return {name: self._checked(name, value, "iu", 1) for name, value in found.items()}

    def of_part(self, role: str, side: str) -> dict[str, np.ndarray]:
        """Inputs (side "in") or outputs ("out") of the call of a part; {} where none was kept."""
        return self._under(f"part/{role}/{side}/")

    def _under(self, start: str) -> dict[str, np.ndarray]:
        names = [name for name in self._packed.files if name.startswith(start)]
        return {name[len(start) :]: self[name] for name in names}

    def _broken(self, error: BaseException) -> JobFault:
        return JobFault(
            "EV357",
            f"{self.path} holds no tensors that can be read",
            str(error)[:300] or type(error).__name__,
            "copy the whole bundle again",
        )
