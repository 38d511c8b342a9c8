"""ETDumps to order, written by Google's flatbuffers: what the reader says is held against it.

    dump([("Execute", [span("OPERATOR_CALL", 0, 0, 10), ...]), ...]) -> bytes

Synthetic: such files are what the event tracer would write, and no runtime wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flatbuffers

__all__ = ["Span", "dump", "inside", "op", "span", "whole"]


class Span(NamedTuple):
    """name: ExecuTorch's own; id: a delegate's, text or number."""

    name: str | None
    at: int
    start: int
    end: int
    chain: int = 0
    id: str | int | None = None


def span(name: str, at: int, start: int, end: int, chain: int = 0) -> Span:
    return Span(name, at, start, end, chain)


def inside(id: str | int, at: int, start: int, end: int) -> Span:
    """Of a delegate."""
    return Span(None, at, start, end, 0, id)


def op(name: str, at: int, start: int, end: int) -> list[Span]:
    """A kernel and the call round it, which takes one more at either end."""
    return [
        span(f"native_call_{name}", at, start + 1, end - 1),
        span("OPERATOR_CALL", at, start, end),
    ]


def whole(start: int, end: int) -> Span:
    return span("Method::execute", 0, start, end, chain=-1)


def dump(blocks: Sequence[tuple[str, Sequence[Span]]], sized: bool = True) -> bytes:
    """sized: with the size in front, as the tracer writes it."""
    made = flatbuffers.Builder(1024)
    runs = [_run(made, name, spans) for name, spans in blocks]
    made.StartVector(4, len(runs), 4)
    for run in reversed(runs):
        made.PrependUOffsetTRelative(run)
    vector = made.EndVector()
    made.StartObject(2)
    made.PrependUOffsetTRelativeSlot(1, vector, 0)
    root = made.EndObject()
    finish = made.FinishSizePrefixed if sized else made.Finish
    finish(root, file_identifier=b"ED00")
    return bytes(made.Output())


def _run(made: flatbuffers.Builder, name: str, spans: Sequence[Span]) -> int:
    events = [_event(made, each) for each in spans]
    text = made.CreateString(name)
    made.StartVector(4, len(events), 4)
    for event in reversed(events):
        made.PrependUOffsetTRelative(event)
    vector = made.EndVector()
    made.StartObject(4)
    made.PrependUOffsetTRelativeSlot(0, text, 0)
    made.PrependUOffsetTRelativeSlot(3, vector, 0)
    return made.EndObject()


def _event(made: flatbuffers.Builder, each: Span) -> int:
    name = None if each.name is None else made.CreateString(each.name)
    text = made.CreateString(each.id) if isinstance(each.id, str) else None
    made.StartObject(8)
    if name is not None:
        made.PrependUOffsetTRelativeSlot(0, name, 0)
    made.PrependInt32Slot(1, each.chain, 0)
    made.PrependInt32Slot(2, each.at, -1)
    if isinstance(each.id, int):
        made.PrependInt32Slot(3, each.id, -1)
    if text is not None:
        made.PrependUOffsetTRelativeSlot(4, text, 0)
    made.PrependUint64Slot(6, each.start, 0)
    made.PrependUint64Slot(7, each.end, 0)
    profile = made.EndObject()
    made.StartObject(3)
    made.PrependUOffsetTRelativeSlot(0, profile, 0)
    return made.EndObject()
