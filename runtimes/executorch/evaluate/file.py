"""What a .pte holds, read as from a stranger: every offset is held against the file.

    [graph: a flatbuffer, "ET12"; extended header "eh00" at byte 8] [segments: constants, payloads]

Schema: schema/program.fbs of executorch 1.5.1; header: runtime/executor/../extended_header.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from edgevlm.compiler.artifact_checks import unusable
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer, Table, root

__all__ = ["Call", "Delegate", "Indices", "Plan", "ProgramFile", "TensorSpec", "open_program"]

MOST_BYTES = 16 * 2**30
MOST_VALUES, MOST_CALLS = 1_000_000, 1_000_000
MOST_MEMORY = 32 * 2**30  # bytes that a plan asks for
COPIED_TIMES, COPIED_ANYWAY = 16, 1 << 20  # bytes of segments, for each of the file; methods share
EXTENDED = struct.Struct("<4sIQQ")  # magic, its length, bytes of the graph, where segments begin
MAGIC = b"eh00"
# fields, by their place in the schema
PLANS, INLINE, SEGMENTS, CONSTANTS, MUTABLE, NAMED = 1, 3, 4, 5, 6, 7
KERNEL, DELEGATE, MOVE = 1, 2, 3


class Indices(NamedTuple):
    """A list whose elements are values of the plan, -1 for none."""

    items: tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """`scalar`: ScalarType of torch. `memory`: (which, offset) of planned memory."""

    scalar: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    buffer: int
    memory: tuple[int, int] | None
    mutable_segment: int
    external: bool


class Call(NamedTuple):
    """`does`: "aten::add.out", the number of a delegate, or "move"."""

    does: str | int
    args: tuple[int, ...]


@dataclass(frozen=True)
class Delegate:
    """`backend`: such as VulkanBackend. `payload`: what it made of its subgraph."""

    backend: str
    payload: bytes
    specs: Mapping[str, bytes]


@dataclass(frozen=True)
class Plan:
    """One method. values: numbers, texts, lists of them, `Indices`, `TensorSpec`s, None."""

    name: str
    values: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[Call, ...]
    delegates: tuple[Delegate, ...]
    memory: tuple[int, ...]  # bytes


class ProgramFile:
    """Plans by name, and the bytes that they name."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self._data = path, data
        magic, _, size, self._base = EXTENDED.unpack_from(data.ljust(40, b"\0"), 8)
        if magic != MAGIC:
            size, self._base = len(data), len(data)
        if not 0 < size <= len(data):
            raise BadFlatbuffer("its graph is longer than the file")
        self._root = root(data[:size], b"ET12")
        self._left = COPIED_TIMES * len(data) + COPIED_ANYWAY
        self._segments = [(t.number(0, "Q"), t.number(1, "Q")) for t in self._root.tables(SEGMENTS)]

    @cached_property
    def plans(self) -> dict[str, Plan]:
        return {t.text(0) or "": self._plan(t) for t in self._root.tables(PLANS)}

    @cached_property
    def named(self) -> dict[str, bytes]:
        """Constants of delegates, by their keys."""
        found = [(t.text(0) or "", t.number(1, "I")) for t in self._root.tables(NAMED)]
        return {key: self._segment(index) for key, index in found}

    def constant(self, spec: TensorSpec, size: int) -> bytes:
        """The bytes of a tensor that is constant, or of the first state of one that is not."""
        if spec.external:
            raise BadFlatbuffer("a tensor lies in another file")
        if spec.memory is None:
            parts, place = self._constants, 0
        else:
            parts, place = self._mutable, spec.mutable_segment
        segment, offsets = parts[place] if place < len(parts) else (0, ())
        if spec.buffer >= len(offsets):
            raise BadFlatbuffer(f"no constant {spec.buffer}")
        at, most = offsets[spec.buffer], self._place(segment)[1]
        if at + size > most:
            raise BadFlatbuffer(f"constant {spec.buffer} is cut off")
        return self._segment(segment, at, size)

    @cached_property
    def _constants(self) -> list[tuple[int, tuple[int, ...]]]:
        """(segment, where in it each lies); one of them, or none."""
        part = self._root.table(CONSTANTS)
        return [] if part is None else [(part.number(0, "I"), part.numbers(1, "Q"))]

    @cached_property
    def _mutable(self) -> list[tuple[int, tuple[int, ...]]]:
        return [(t.number(0, "I"), t.numbers(1, "Q")) for t in self._root.tables(MUTABLE)]

    @cached_property
    def _inline(self) -> list[Table]:
        return list(self._root.tables(INLINE))

    def _place(self, index: int) -> tuple[int, int]:
        """(where a segment begins in the file, its bytes)"""
        if index >= len(self._segments):
            raise BadFlatbuffer(f"no segment {index}")
        at, size = self._segments[index]
        if self._base + at + size > len(self._data):
            raise BadFlatbuffer(f"segment {index} is cut off")
        return self._base + at, size

    def _segment(self, index: int, start: int = 0, size: int | None = None) -> bytes:
        at, whole = self._place(index)
        size = whole if size is None else size
        self._left -= size
        if self._left < 0:
            raise BadFlatbuffer("it names the same segments over and over")
        return self._data[at + start : at + start + size]

    def _plan(self, table: Table) -> Plan:
        if table.count(2) > MOST_VALUES:
            raise BadFlatbuffer(f"more than {MOST_VALUES} values")
        memory = table.numbers(8, "q")
        if any(size < 0 for size in memory) or sum(memory) > MOST_MEMORY:
            raise BadFlatbuffer(f"it plans {sum(memory)} bytes of memory")
        ops = [_joined(each) for each in table.tables(6)]
        calls = [_call(each, ops) for chain in table.tables(5) for each in chain.tables(2)]
        if len(calls) > MOST_CALLS:
            raise BadFlatbuffer(f"more than {MOST_CALLS} instructions")
        return Plan(
            table.text(0) or "",
            tuple(_value(each) for each in table.tables(2)),
            table.numbers(3, "i"),
            table.numbers(4, "i"),
            tuple(calls),
            tuple(self._delegate(each) for each in table.tables(7)),
            memory,
        )

    def _delegate(self, table: Table) -> Delegate:
        place = table.table(1)
        if place is None:
            raise BadFlatbuffer("a delegate has no payload")
        index = place.number(1, "I")
        if place.number(0, "b"):
            payload = self._segment(index)
        else:
            if index >= len(self._inline):
                raise BadFlatbuffer(f"no payload {index}")
            payload = self._inline[index].raw(0)
        specs = {each.text(0) or "": each.raw(1) for each in table.tables(2)}
        return Delegate(table.text(0) or "", payload, specs)


def open_program(path: Path) -> ProgramFile:
    """Raises JobFault EV304."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        file = ProgramFile(path, path.read_bytes())
        file.plans  # noqa: B018  (reads all of the graph)
        return file
    except (OSError, ValueError) as error:  # BadFlatbuffer is one
        raise unusable(path, f"it is no program of ExecuTorch, or is cut off: {error}") from error


def _joined(table: Table) -> str:
    name, overload = table.text(0) or "", table.text(1) or ""
    return f"{name}.{overload}" if overload else name


def _call(table: Table, ops: list[str]) -> Call:
    kind, made = table.number(0, "B"), table.table(1)
    if made is None or kind not in (KERNEL, DELEGATE, MOVE):
        raise BadFlatbuffer(f"an instruction of kind {kind}")
    if kind == MOVE:
        return Call("move", (made.number(0, "i"), made.number(1, "i")))
    index = made.number(0, "i")
    if kind == DELEGATE:
        return Call(index, made.numbers(1, "i"))
    if not 0 <= index < len(ops):
        raise BadFlatbuffer(f"an instruction calls op {index} of {len(ops)}")
    return Call(ops[index], made.numbers(1, "i"))


def _value(table: Table) -> Any:
    kind, made = table.number(0, "B"), table.table(1)
    if made is None or kind in (0, 1):
        return None
    match kind:  # KernelTypes of the schema, by number
        case 2:
            return made.number(0, "q")
        case 3:
            return bool(made.number(0, "B"))
        case 4:
            return made.number(0, "d")
        case 5:
            return _tensor(made)
        case 6:
            return made.text(0) or ""
        case 7:
            return Indices(made.numbers(0, "q"))
        case 8:
            return made.numbers(0, "d")
        case 9:
            return tuple(map(bool, made.numbers(0, "B")))
        case 10 | 11:
            return Indices(made.numbers(0, "i"))
    raise BadFlatbuffer(f"a value of kind {kind}")


def _tensor(table: Table) -> TensorSpec:
    place, more = table.table(6), table.table(9)
    sizes, order = table.numbers(2, "i"), table.numbers(3, "B")
    if any(size < 0 for size in sizes) or sorted(order) != list(range(len(sizes))):
        raise BadFlatbuffer(f"a tensor of sizes {sizes[:8]}, laid out as {order[:8]}")
    return TensorSpec(
        scalar=table.number(0, "b"),
        sizes=sizes,
        order=order,
        buffer=table.number(5, "I"),
        memory=place and (place.number(0, "I"), place.number(1, "I") | place.number(2, "I") << 32),
        mutable_segment=more.number(0, "Q") if more else 0,
        external=bool(more and more.number(2, "b")),
    )
