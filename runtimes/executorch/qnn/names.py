"""What QNN calls its profiling events, and in which unit each one is.

    Number of HVX threads used                 count
    RPC (execute) time                         microseconds
    Accelerator (execute) time (cycles)        cycles, of the whole graph
    aten_linear_default:OpId_45 (cycles)       cycles, of one op; its children
    Input OpId_2 (cycles)                      the same, of what brings the inputs in

Cycles of ops run beside each other (HMX, HVX threads, DMA), so they do not add up to the time of
the graph, and no clock turns them into microseconds: they say which op is heavier than which.
https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-10/htp_backend.html
Samples: https://github.com/chraac/llama.cpp/issues/34,
https://gist.github.com/hushell/23e68eef236673655db4635b80297c40
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["QnnOp", "measure_of", "op_of"]

CYCLES = "(cycles)"
US_A_MS = 1e3
#: of the whole graph, or of what carries it
_FIGURE = re.compile(r"Num(ber of| times)? .*|.*\btime( \(cycles\))?")
_OP = re.compile(r"(?P<name>.*?)[:\s]?OpId_(?P<id>\d+)\s*(\(cycles\))?")


class QnnOp(NamedTuple):
    name: str  # as the graph that QNN was given called it; "" where it gave none
    id: int


def measure_of(event: str, value: float) -> tuple[float, Literal["ms", "cycles", "count"], bool]:
    """(size, its unit, whether it is an op and not a figure of the whole graph).

    value: as QNN hands it over: cycles, a count, or microseconds.
    """
    part = _FIGURE.fullmatch(event) is None
    if event.endswith(CYCLES):
        return value, "cycles", part
    if event.startswith("Num"):
        return value, "count", part
    return value / US_A_MS, "ms", part


def op_of(event: str) -> QnnOp | None:
    """None for what is no op of the graph."""
    found = _OP.fullmatch(event.strip())
    return QnnOp(found["name"].strip(), int(found["id"])) if found else None
