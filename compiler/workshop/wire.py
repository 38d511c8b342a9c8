"""Arrays by name over a pipe: a length, a JSON head, then the bytes of each array. No pickle.

    b"EVW1" | length of head, 8 bytes | {"head": {...}, "arrays": [[name, dtype, shape], ...]} | ...

dtypes are numpy's own bool, int, uint and float; whatever else (bfloat16) goes as the integers that
hold its bits.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["MOST_BYTES", "BrokenFrame", "decode", "encode"]

_START = struct.Struct("<4sQ")
_MAGIC = b"EVW1"
_MOST_HEAD = 4 * 2**20
#: of one array
MOST_BYTES = 2**33


class BrokenFrame(ValueError):
    """What was read is no frame."""


def encode(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """What to write, in order. Raises TypeError for a dtype that is not carried."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    rows = []
    for name, array in whole.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"array {name!r} is {array.dtype}, which is not carried")
        little = array.dtype.newbyteorder("<")
        whole[name] = array.astype(little, copy=False)
        # the shape as it was given: a scalar becomes [1] when it is made contiguous
        rows.append([name, little.str, list(np.shape(arrays[name]))])
    text = json.dumps({"head": dict(head), "arrays": rows}).encode()
    parts = [memoryview(array.reshape(-1)).cast("B") for array in whole.values() if array.size]
    return [_START.pack(_MAGIC, len(text)) + text, *parts]


def decode(
    read: Callable[[int], bytes | bytearray],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The next frame; `read(n)` gives exactly n bytes or raises. Raises BrokenFrame."""
    magic, length = _START.unpack(read(_START.size))
    if magic != _MAGIC or length > _MOST_HEAD:
        raise BrokenFrame(f"a frame that begins with {magic!r}, {length} bytes of head")
    try:
        told = json.loads(bytes(read(length)))
        head, rows = told["head"], told["arrays"]
        arrays = {name: _array(dtype, shape, read) for name, dtype, shape in rows}
    except BrokenFrame:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenFrame(f"a head that cannot be read: {error}") from error
    if not isinstance(head, dict):
        raise BrokenFrame("a head that is no object")
    return head, arrays


def _array(dtype: str, shape: list[int], read: Callable[[int], bytes | bytearray]) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind not in "biuf" or not all(type(n) is int and n >= 0 for n in shape):
        raise BrokenFrame(f"an array of {dtype!r}, shape {shape!r}")
    size = math.prod(shape) * kind.itemsize
    if size > MOST_BYTES:
        raise BrokenFrame(f"an array of {size} bytes")
    return np.frombuffer(read(size) if size else bytearray(), kind).reshape(shape)
