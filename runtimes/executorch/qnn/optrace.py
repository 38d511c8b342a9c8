"""Chrome trace of an op trace: what ran on each unit of the HTP, and when.

    {"traceEvents": [
        {"ph": "M", "pid": 0, "tid": 256, "name": "thread_name",
         "args": {"name": "Core:0 Type: HMX Tid: 256"}},
        {"ph": "X", "pid": 0, "tid": 256, "ts": 12, "dur": 370, "name": "q::ConvLayer",
         "args": {"QNN Op Name": "fc", "QNN Op Type": "FullyConnected",
                  "Dominant Path Cycles": 370}}]}

Process 0 has every event once, the others again by op. `ts` and `dur` are cycles. One op of the
graph becomes many of HTP, on several units at once. Not published; fields as public readers of such
files name them, so what lacks one of them is passed over.
https://docs.qualcomm.com/bundle/publicresource/topics/80-63442-10/htp_backend.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgevlm.runtimes.executorch.qnn.report_json import as_number, loaded
from edgevlm.runtimes.executorch.qnn.rows import QnnProfile, QnnRow, QnnRun, averaged, unreadable

__all__ = ["read_optrace"]

OVERVIEW = 0  # the process that has each event once
MOST_EVENTS = 2_000_000
TIMELINE = "timeline_cycles"
NAME, TYPE, CRITICAL = "QNN Op Name", "QNN Op Type", "Dominant Path Cycles"
UNIT = re.compile(r"Type: (\w+)")


def read_optrace(path: Path) -> QnnProfile:
    """Of one run; rows are ops of the graph. Raises JobFault EV360.

    figures: timeline_cycles, from the first event to the end of the last, and busy cycles by unit.
    """
    data = loaded(path)
    try:
        events = data["traceEvents"] if isinstance(data, dict) else data
        if not isinstance(events, list) or len(events) > MOST_EVENTS:
            raise ValueError(f"no list of at most {MOST_EVENTS} events")
        return averaged([_run(events)], path.name)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"it is not shaped as expected: {type(error).__name__}: {error}"
        raise unreadable(path.name, why) from error


def _run(events: Iterable[dict[str, Any]]) -> QnnRun:
    units: dict[Any, str] = {}
    cycles: dict[str, float] = {}
    critical: dict[str, float] = {}
    kinds: dict[str, str | None] = {}
    used: dict[str, set[str]] = {}
    busy: dict[str, float] = {}
    spans: list[tuple[float, float]] = []
    for event in events:
        told = event.get("args") or {}
        if event.get("pid") != OVERVIEW:
            continue
        if event.get("ph") == "M" and event.get("name") == "thread_name":
            found = UNIT.search(str(told.get("name", "")))
            units[event.get("tid")] = found[1] if found else "?"
        if event.get("ph") != "X" or NAME not in told:
            continue
        name, took = str(told[NAME]), as_number(event["dur"])
        begin, unit = as_number(event["ts"]), units.get(event.get("tid"), "?")
        spans.append((begin, begin + took))
        cycles[name] = cycles.get(name, 0.0) + took
        critical[name] = critical.get(name, 0.0) + as_number(told.get(CRITICAL, 0))
        kinds.setdefault(name, str(told[TYPE]) if TYPE in told else None)
        used.setdefault(name, set()).add(unit)
        busy[unit] = busy.get(unit, 0.0) + took
    figures = {f"{unit} cycles": spent for unit, spent in busy.items()}
    if spans:
        figures[TIMELINE] = max(end for _, end in spans) - min(begin for begin, _ in spans)
    rows = [
        QnnRow(
            name,
            None,
            spent,
            kinds[name],
            tuple(sorted(used[name] - {"?"})),
            critical[name],
        )
        for name, spent in cycles.items()
    ]
    return QnnRun(figures, rows)
