"""An ETDump (.etdp): what ExecuTorch's event tracer wrote down, on this host or on a phone.

    block "Default", for each method loaded      Method::init, Program::load_method
    block "Execute", for each run                events of each instruction, then Method::execute
        native_call_x     the kernel alone;  OPERATOR_CALL  with what ExecuTorch does round it
        (delegate's id)   what a delegate says of its inside;  DELEGATE_CALL  all of it

Times are ticks; on Linux, Android and Apple's systems a tick is a nanosecond
(runtime/platform/default/posix.cpp, android.cpp). No event names its method: see whose_run.py.
Schema: devtools/etdump/etdump_schema_flatcc.fbs of executorch 1.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.flatbuffer import BadFlatbuffer, Table, root

__all__ = ["Block", "Event", "parse_etdump", "read_etdump"]

IDENTIFIER = b"ED00"
MOST_BYTES = 256 * 2**20
MOST_EVENTS = 1_000_000
# fields of the tables, by their place in the schema
RUN_DATA, RUN_NAME, RUN_EVENTS, PROFILE = 1, 0, 3, 0
NAME, CHAIN, INSTRUCTION, ID_INT, ID_TEXT, START, END = 0, 1, 2, 3, 4, 6, 7
#: what ExecuTorch itself calls its events; a kernel's begins with KERNEL
EXECUTE, OPERATOR, DELEGATE, LOAD = (
    "Method::execute",
    "OPERATOR_CALL",
    "DELEGATE_CALL",
    "Program::load_method",
)
KERNEL = "native_call_"


@dataclass(frozen=True, slots=True)
class Event:
    """One span. `inside`: the name is one that a delegate gave, of something in its inside."""

    name: str
    chain: int
    instruction: int
    start: int  # ticks
    end: int
    inside: bool

    @property
    def kind(self) -> Literal["execute", "load", "operator", "delegate", "kernel", "inside", ""]:
        if self.inside:
            return "inside"
        if self.name.startswith(KERNEL):
            return "kernel"
        return {EXECUTE: "execute", OPERATOR: "operator", DELEGATE: "delegate", LOAD: "load"}.get(
            self.name, ""
        )

    @property
    def at(self) -> tuple[int, int]:
        """Chain and instruction."""
        return self.chain, self.instruction

    @property
    def ticks(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Block:
    name: str
    events: tuple[Event, ...]


def read_etdump(path: Path) -> list[Block]:
    """Raises JobFault EV360 for what is none, is cut off, or is larger than 256 MB."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise _unreadable(path.name, error.strerror or str(error)) from error
    if size > MOST_BYTES:
        raise _unreadable(
            path.name, f"it has {size / 2**20:.0f} MB; {MOST_BYTES >> 20} is the most"
        )
    return parse_etdump(data, path.name)


def parse_etdump(data: bytes, name: str = "the ETDump") -> list[Block]:
    """Raises JobFault EV360."""
    if not data:
        raise _unreadable(name, "it is empty: the run was ended, or had no event tracer")
    try:
        return _blocks(root(data, IDENTIFIER))
    except BadFlatbuffer as error:
        raise _unreadable(name, f"it is no ETDump, or is cut off: {error}") from error


def _blocks(dump: Table) -> list[Block]:
    found, total = [], 0
    for run in dump.tables(RUN_DATA):
        total += run.count(RUN_EVENTS) + 1
        if total > MOST_EVENTS:
            raise BadFlatbuffer(f"more than {MOST_EVENTS} events")
        spans = (each.table(PROFILE) for each in run.tables(RUN_EVENTS))
        found.append(Block(run.text(RUN_NAME) or "", tuple(_event(s) for s in spans if s)))
    return found


def _event(span: Table) -> Event:
    start, end = span.number(START, "Q"), span.number(END, "Q")
    if end < start:
        raise BadFlatbuffer("an event that ends before it begins")
    name, inside = span.text(NAME), False
    if name is None:
        inside, number = True, span.number(ID_INT, "i", -1)
        name = span.text(ID_TEXT) or f"delegate event {number}"
    return Event(
        name, span.number(CHAIN, "i"), span.number(INSTRUCTION, "i", -1), start, end, inside
    )


def _unreadable(name: str, why: str) -> JobFault:
    return JobFault("EV360", f"{name} cannot be read", why, "profile again")
