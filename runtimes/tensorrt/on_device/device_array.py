"""An array that lies on the device, with enough of numpy's face for the token loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevlm.runtimes.tensorrt.on_device.cudart import Cuda

__all__ = ["DeviceArray"]


class DeviceArray:
    """A view of device memory that somebody else owns, C-contiguous.

    `np.array(it)` copies it to the host, after everything that was put on its stream before.
    """

    def __init__(
        self, cuda: Cuda, stream: int, pointer: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.cuda, self.stream, self.pointer = cuda, stream, pointer
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.source: np.ndarray | None = None  # what is on its way here from the host

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on the device cannot be seen without a copy")
        host = np.empty(self.shape, self.dtype)
        self.cuda.to_host(host, self.pointer, self.stream)
        self.cuda.wait(self.stream)
        return host if dtype is None else host.astype(dtype, copy=False)

    def clear(self) -> None:
        """All bytes zero."""
        self.cuda.clear(self.pointer, self.nbytes, self.stream)

    def set_rows(self, at: int, rows: DeviceArray) -> None:
        """rows [1,heads,n,d] into [1,heads,C,d] from row `at` on; nothing passes the host.

        Raises ValueError for rows that do not fit, which would write over what lies behind.
        """
        (_, heads, room, d), (_, same, n, width) = self.shape, rows.shape
        if (same, width, rows.dtype) != (heads, d, self.dtype) or not 0 <= at <= room - n:
            raise ValueError(f"rows {rows.shape} {rows.dtype} into {self.shape} at {at}")
        row = d * self.dtype.itemsize
        target, stretch = self.pointer + at * row, n * row
        self.cuda.rows(target, room * row, rows.pointer, stretch, stretch, heads, self.stream)
