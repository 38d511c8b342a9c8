"""What QNN's profilers say, as rows, and rows as layers of a report.

All formats end here: a run has figures of the whole graph, and ops with the cycles of each. Layers
have milliseconds, which QNN gives for no op: the accelerator's time is shared out by cycles, those
of the critical path where they are known. That is an estimate, since ops run beside each other, and
is labelled as one; the cycles are kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.base import LayerTime

__all__ = [
    "BY_CYCLES",
    "CycleLayer",
    "QnnProfile",
    "QnnRow",
    "QnnRun",
    "averaged",
    "node_name",
    "qnn_layers",
    "read_text",
    "unreadable",
]

BY_CYCLES = "estimated-qnn"
UNIT = "HTP"
MOST_BYTES = 128 * 2**20
#: time of the graph on the accelerator, in the order of trust; microseconds
ACCELERATOR = (
    "Accelerator (execute) time",
    "graph_execute_us",
    "QNN accelerator (execute) time",
    "RPC (execute) time",
    "QNN (execute) time",
)
#: QNN's compiler puts it behind names of ONNX nodes
_TOKEN = re.compile(r"_token_\d+(_\d+)?")


@dataclass(frozen=True)
class CycleLayer(LayerTime):
    """A layer whose cycles were counted; its milliseconds are a share by cycles."""

    cycles: int


@dataclass(frozen=True)
class QnnRow:
    """One op. op: its type, where the format says it. resources: HVX, HMX, DMA.

    critical: cycles on the longest chain of ops that wait for each other. waited, overlapped:
    cycles before it began, and beside which something ran; of linting profiles only. None of the
    last two may be added up over ops.
    """

    name: str
    id: int | None
    cycles: float
    op: str | None = None
    resources: tuple[str, ...] = ()
    critical: float | None = None
    waited: float | None = None
    overlapped: float | None = None


@dataclass
class QnnRun:
    figures: dict[str, float] = field(default_factory=dict)
    rows: list[QnnRow] = field(default_factory=list)


@dataclass(frozen=True)
class QnnProfile:
    """figures: of the graph by QNN's name: microseconds, cycles or counts; means over `runs`."""

    runs: int
    figures: Mapping[str, float]
    rows: tuple[QnnRow, ...]

    @property
    def accelerator_us(self) -> float | None:
        """Of one run; None where no figure says it."""
        return next((self.figures[name] for name in ACCELERATOR if name in self.figures), None)


def averaged(runs: Sequence[QnnRun], name: str) -> QnnProfile:
    """Means over the runs that have it. Raises JobFault EV360 where none has anything."""
    if not any(run.figures or run.rows for run in runs):
        raise unreadable(name, "it has no figure of a graph that was executed")
    figures: dict[str, list[float]] = defaultdict(list)
    rows: dict[tuple[str, int | None], list[QnnRow]] = defaultdict(list)
    for run in runs:
        for figure, value in run.figures.items():
            figures[figure].append(value)
        for row in run.rows:
            rows[row.name, row.id].append(row)
    return QnnProfile(
        len(runs),
        {figure: _mean(values) for figure, values in figures.items()},
        tuple(_averaged(same) for same in rows.values()),
    )


def _averaged(same: Sequence[QnnRow]) -> QnnRow:
    def mean(values: Iterable[float | None]) -> float | None:
        told = [value for value in values if value is not None]
        return _mean(told) if told else None

    return replace(
        same[0],
        cycles=_mean([row.cycles for row in same]),
        critical=mean(row.critical for row in same),
        waited=mean(row.waited for row in same),
        overlapped=mean(row.overlapped for row in same),
    )


def qnn_layers(profile: QnnProfile, role: Role) -> list[LayerTime]:
    """In the order of the profile; none where it has no time of the graph."""
    us = profile.accelerator_us
    if us is None:
        return []
    critical = any(row.critical for row in profile.rows)
    weights = [(row.critical or 0.0) if critical else row.cycles for row in profile.rows]
    total = sum(weights) or 1.0
    return [
        CycleLayer(
            role,
            node_name(row.name, row.id),
            row.op or "qnn op",
            "+".join((UNIT, *row.resources)) if row.resources else UNIT,
            us / 1e3 * weight / total,
            BY_CYCLES,
            round(row.cycles),
        )
        for row, weight in zip(profile.rows, weights, strict=True)
    ]


def node_name(name: str, op_id: int | None) -> str:
    """Of the graph's node as far as QNN kept it; one op may have several ids."""
    name = _TOKEN.sub("", name)
    return name if op_id is None else f"{name}:{op_id}"


def read_text(path: Path) -> str:
    """A file that one of QNN's programs wrote. Raises JobFault EV360."""
    try:
        size = path.stat().st_size
        if size <= MOST_BYTES:
            return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise unreadable(path.name, error.strerror or str(error)) from error
    raise unreadable(path.name, f"it has {size >> 20} MB; {MOST_BYTES >> 20} MB is the most")


def unreadable(name: str, why: str) -> JobFault:
    return JobFault("EV360", f"{name} cannot be read", why[:300], "profile again")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
