"""The same model gives the same bytes: names that Core AI draws at random are numbered instead.

    resource_17643319561473605783, layer_norm_wwijwwpj    ->    resource_7, layer_norm_8

A program is MLIR bytecode: sections, each (id, length, bytes). All names are in one of them, the
string section, which lies behind the weights, so that only the end of a file is written again.
Everything else refers to names by their position. https://mlir.llvm.org/docs/BytecodeFormat/
"""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from pathlib import Path
from typing import BinaryIO

__all__ = ["name_steadily"]

MAGIC = b"ML\xefR"
STRINGS, ALIGNED = 0, 0x80
#: constants, by a hash that hangs on where the program was loaded; composites, by what was drawn
DRAWN = re.compile(
    rb"(resource)_\d+|(layer_norm|rms_norm|sdpa|sdpa_maskless|log_softmax|batch_norm|group_norm"
    rb"|instance_norm|linalg_vector_norm|pixel_shuffle|hardsigmoid)_[a-z]{8}"
)


def name_steadily(path: Path) -> None:
    """In place. Raises ValueError for what is no such file."""
    with path.open("r+b") as file:
        start, stop = _strings_in(file)
        file.seek(start)
        names, rest = _read_names(file.read(stop - start)), file.read()
        for i, name in enumerate(names):
            if found := DRAWN.fullmatch(name):
                names[i] = b"%s_%d" % (found[1] or found[2], i)
        body = _written(names)
        # in front of it: its id, which stays, and its length, which may take fewer bytes or more
        file.seek(start - len(_varint(stop - start)))
        file.write(_varint(len(body)) + body + rest)
        file.truncate()


def _strings_in(file: BinaryIO) -> tuple[int, int]:
    """Where the body of the string section begins and ends; what follows it is not aligned."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is no MLIR bytecode")
    _read_varint(file)  # version
    while file.read(1) not in (b"\0", b""):  # producer
        pass
    found = None
    while head := file.read(1):
        length = _read_varint(file)
        if head[0] & ALIGNED:
            if found or head[0] & ~ALIGNED == STRINGS:
                raise ValueError("a section behind its names is aligned")
            alignment = _read_varint(file)
            file.seek(-(-file.tell() // max(alignment, 1)) * max(alignment, 1))
        if head[0] == STRINGS:
            found = file.tell(), file.tell() + length
        file.seek(length, 1)
    if found is None:
        raise ValueError("it has no names")
    return found


def _read_names(body: bytes) -> list[bytes]:
    """count, lengths from the last to the first with the zero at their ends, names."""
    count, at = _varint_in(body, 0)
    lengths = []
    for _ in range(count):
        length, at = _varint_in(body, at)
        lengths.append(length)
    ends = accumulate(reversed(lengths), initial=at)
    return [body[a : b - 1] for a, b in pairwise(ends)]


def _written(names: list[bytes]) -> bytes:
    lengths = b"".join(_varint(len(name) + 1) for name in reversed(names))
    return _varint(len(names)) + lengths + b"".join(name + b"\0" for name in names)


def _read_varint(file: BinaryIO) -> int:
    head = file.read(1)
    if not head:
        raise ValueError("it ends too early")
    more = file.read(8 if head == b"\0" else (head[0] & -head[0]).bit_length() - 1)
    return _varint_in(head + more, 0)[0]


def _varint_in(data: bytes, at: int) -> tuple[int, int]:
    """Of the number of low zero bits of the first byte follow as many bytes; 0: eight."""
    if at >= len(data):
        raise ValueError("it ends too early")
    head = data[at]
    size = 9 if head == 0 else (head & -head).bit_length()
    number = int.from_bytes(data[at : at + size], "little")
    return (number >> 8 if head == 0 else number >> size), at + size


def _varint(number: int) -> bytes:
    for size in range(1, 9):
        if number < 1 << (7 * size):
            return ((number << size) | (1 << (size - 1))).to_bytes(size, "little")
    return b"\0" + number.to_bytes(8, "little")
