"""Reading a flatbuffer of a stranger: tables by field number, every offset held against the data.

    root: [offset to table] .. table: [offset back to its vtable] [fields ..] .. vtable: [size,
    size of the table, offset of field 0, of field 1, ..]; a field that is not there has offset 0

The schemas are those of ExecuTorch (etdump_schema_flatcc.fbs, program.fbs); the way they lie in a
file is https://flatbuffers.dev/internals/. Its own library trusts offsets and would need code made
from each schema; flatc would be a program that is handed the file of a stranger.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["BadFlatbuffer", "Table", "root"]

MOST_TEXT, MOST_FIELDS = 1024, 256  # bytes of a name; fields of a table
#: bytes that may be read for each of the data, and of none: many places may point at one table
READ_TIMES, READ_ANYWAY, A_TABLE = 16, 1 << 20, 16


class BadFlatbuffer(ValueError):
    """What points out of the data, or is longer than it can be."""


class Table:
    """One table; fields by their number in the schema (a union takes two, its type first)."""

    __slots__ = ("_at", "_data", "_fields", "_left")

    def __init__(self, data: bytes, at: int, left: list[int]) -> None:
        """left: how many bytes may be read yet, of all tables of a root together."""
        self._data, self._at, self._left = data, at, left
        self._spend(A_TABLE)
        vtable = at - _read(data, "<i", at)
        size = _read(data, "<H", vtable)
        if not 4 <= size <= 4 + 2 * MOST_FIELDS or vtable + size > len(data):
            raise BadFlatbuffer(f"the vtable at {vtable} has {size} bytes, or is cut off")
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", data, vtable + 4)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A scalar; kind: its letter in `struct`, such as i, I, q, Q, b."""
        at = self._where(field)
        return default if at is None else _read(self._data, f"<{kind}", at)

    def text(self, field: int) -> str | None:
        at = self._where(field)
        if at is None:
            return None
        at += _read(self._data, "<I", at)
        size = _read(self._data, "<I", at)
        if size > MOST_TEXT or at + 4 + size > len(self._data):
            raise BadFlatbuffer(f"a name of {size} bytes at {at}")
        self._spend(size)
        return self._data[at + 4 : at + 4 + size].decode("utf-8", "replace")

    def table(self, field: int) -> Table | None:
        at = self._where(field)
        if at is None:
            return None
        return Table(self._data, at + _read(self._data, "<I", at), self._left)

    def tables(self, field: int) -> Iterator[Table]:
        """Of a vector of tables; none where it is absent."""
        at, count = self._vector(field, 4)
        for place in range(at, at + 4 * count, 4):
            yield Table(self._data, place + _read(self._data, "<I", place), self._left)

    def numbers(self, field: int, kind: str) -> tuple[int, ...]:
        """A vector of scalars; () where it is absent."""
        size = struct.calcsize(f"<{kind}")
        at, count = self._vector(field, size)
        self._spend(count * size)
        return struct.unpack_from(f"<{count}{kind}", self._data, at)

    def raw(self, field: int) -> bytes:
        """A vector of bytes."""
        at, count = self._vector(field, 1)
        self._spend(count)
        return self._data[at : at + count]

    def count(self, field: int) -> int:
        """Elements of a vector of tables."""
        return self._vector(field, 4)[1]

    def _vector(self, field: int, bytes_each: int) -> tuple[int, int]:
        at = self._where(field)
        if at is None:
            return 0, 0
        at += _read(self._data, "<I", at)
        count = _read(self._data, "<I", at)
        if at + 4 + count * bytes_each > len(self._data):
            raise BadFlatbuffer(f"a list of {count} at {at}")
        return at + 4, count

    def _spend(self, size: int) -> None:
        self._left[0] -= size
        if self._left[0] < 0:
            raise BadFlatbuffer("it points to the same bytes over and over")

    def _where(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else None


def root(data: bytes, identifier: bytes) -> Table:
    """The root, with or without the size in front. Raises BadFlatbuffer for another file."""
    for start in (4, 0):
        if data[start + 4 : start + 8] == identifier:
            left = [READ_TIMES * len(data) + READ_ANYWAY]
            return Table(data, start + _read(data, "<I", start), left)
    raise BadFlatbuffer(f"it does not begin as one of kind {identifier.decode()}")


def _read(data: bytes, kind: str, at: int) -> int:
    try:
        if at < 0:  # struct would count from the end
            raise struct.error
        return struct.unpack_from(kind, data, at)[0]
    except struct.error:
        raise BadFlatbuffer(f"it points to {at}, of {len(data)} bytes") from None
