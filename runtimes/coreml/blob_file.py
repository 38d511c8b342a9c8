"""weights/weight.bin: tensors in one file, each behind 64 bytes that say what it is.

    |header: count, version 2 |metadata 0|data 0|padding|metadata 1|data 1| ...
    |0                        |64        |128   |       |                     all at multiples of 64

    metadata: sentinel 0xDEADBEEF u32, type u32, bytes u64, offset of the data u64, bits of padding

A program names a tensor by the offset of its metadata. Elements of less than a byte are packed from
the least significant bit on and may cross a byte. Source: StorageFormat.hpp and BlobDataType.hpp in
https://github.com/apple/coremltools/tree/main/mlmodel/src/MILBlob/Blob

It is read here and not by coremltools, whose reader is the other half of what wrote the file.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from edgevlm.runtimes.coreml.mil_types import TensorType, Unreadable

__all__ = ["BlobFile", "unpacked"]

METADATA = struct.Struct("<IIQQQ32x")
SENTINEL = 0xDEADBEEF
#: number in a file -> name in MIL
BLOB_TYPES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1",
    10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip


class BlobFile:
    """Mapped, not read: a tensor costs memory when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Raises Unreadable."""
        try:
            self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise Unreadable(f"{path.name}: {error}") from error
        if len(self._bytes) < METADATA.size or int(self._bytes[4:8].view("<u4")[0]) != 2:
            raise Unreadable(f"{path.name} is no blob file of version 2")
        self._name = path.name

    def tensor(self, offset: int, type_: TensorType) -> np.ndarray:
        """As stored, or int8 or uint8 where elements have less than a byte. Raises Unreadable."""
        end = len(self._bytes)
        if offset % 64 or not 64 <= offset <= end - METADATA.size:
            raise Unreadable(f"{self._name} has no tensor at offset {offset}")
        head = self._bytes[offset : offset + METADATA.size].tobytes()
        sentinel, number, size, start, _ = METADATA.unpack(head)
        if sentinel != SENTINEL:
            raise Unreadable(f"{self._name} has no tensor at offset {offset}")
        if BLOB_TYPES.get(number) != type_.dtype.name:
            stored = BLOB_TYPES.get(number, f"type {number}")
            raise Unreadable(f"{self._name} at {offset} has {stored}, the program says {type_}")
        wanted = -(-(type_.elements or 0) * type_.dtype.bits // 8)
        if size != wanted or type_.elements is None:
            raise Unreadable(f"{self._name} at {offset} has {size} bytes, the program says {type_}")
        if start + size > end:
            raise Unreadable(f"{self._name} ends before the tensor at {offset} does")
        return unpacked(self._bytes[start : start + size], type_)


def unpacked(data: np.ndarray, type_: TensorType) -> np.ndarray:
    """uint8 bytes -> the tensor; numbers below a byte as int8 or uint8. Raises Unreadable."""
    dtype, count = type_.dtype, type_.elements
    if count is None or len(data) != -(-count * dtype.bits // 8):
        raise Unreadable(f"{len(data)} bytes for {type_}")
    if dtype.numpy is not None:
        return data.view(dtype.numpy.newbyteorder("<")).reshape(type_.shape)
    if 8 % dtype.bits == 0:
        shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
        numbers = (data[:, None] >> shifts & np.uint8(2**dtype.bits - 1)).reshape(-1)[:count]
    else:
        bits = np.unpackbits(data, bitorder="little", count=count * dtype.bits)
        places = (1 << np.arange(dtype.bits)).astype(np.uint8)
        numbers = (bits.reshape(count, dtype.bits) * places).sum(1, dtype=np.uint8)
    if dtype.low < 0:  # two's complement
        sign = np.int8(-dtype.low)
        numbers = (numbers.view(np.int8) ^ sign) - sign
    return numbers.reshape(type_.shape)
