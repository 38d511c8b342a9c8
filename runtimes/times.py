"""Times of nodes and ops as every runtime tells them; runtimes/base.py gives them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from edgevlm.compiler.contract import Role

__all__ = ["LayerTime", "NodeTime", "OpTime", "by_op", "by_part"]


class NodeTime(NamedTuple):
    """One node as a runtime ran it."""

    op: str
    node: str
    ms: float  # a run
    unit: str | None  # that ran it, in the runtime's own word; None where it does not say


@dataclass(frozen=True)
class OpTime:
    """Time of one op in one part, summed over its nodes; milliseconds a run."""

    role: Role
    op: str
    nodes: int
    ms: float
    share: float  # of the part
    how: str


@dataclass(frozen=True)
class LayerTime:
    """Time of one node of one part, in the order in which nodes run; milliseconds a run."""

    role: Role
    node: str
    op: str
    unit: str | None
    ms: float
    how: str


def by_op(role: Role, times: Iterable[NodeTime], how: str = "measured-host") -> list[OpTime]:
    """Summed over the nodes of an op, the slowest first."""
    found: dict[str, list[float]] = defaultdict(list)
    for time in times:
        found[time.op].append(time.ms)
    whole = sum(map(sum, found.values())) or 1.0
    return [
        OpTime(role, op, len(each), sum(each), sum(each) / whole, how)
        for op, each in sorted(found.items(), key=lambda row: -sum(row[1]))
    ]


def by_part(layers: Iterable[LayerTime]) -> list[OpTime]:
    """Summed by op, part by part; a part is known as surely as the least sure of its layers."""
    parts: dict[Role, list[LayerTime]] = defaultdict(list)
    for row in layers:
        parts[row.role].append(row)
    found = []
    for role, rows in parts.items():
        times = [NodeTime(row.op, row.node, row.ms, row.unit) for row in rows]
        estimates = [row.how for row in rows if not row.how.startswith("measured-")]
        found += by_op(role, times, (estimates or [rows[0].how])[0])
    return found
