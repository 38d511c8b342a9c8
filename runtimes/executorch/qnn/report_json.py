"""JSON of qnn-profile-viewer, which QAIRT's Python and its Visualizer read.

    {"messages": [{"method": "BACKEND_EXECUTE", "profilingEvents": [
        {"identifier": "Accelerator (execute) time (cycles)", "unit": "CYCLES", "value": 29239,
         "sub-events": [{"identifier": "fc:OpId_17 (cycles)", "type": "NODE", "value": 6137}, ..]},
        {"identifier": "Accelerator (execute) time", "unit": "MICROSEC", "value": 1734}]}]}

As QAIRT 2.49 wrote it on an SM8750, in the tests of a public project; no description was found.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from edgevlm.runtimes.executorch.qnn.names import op_of
from edgevlm.runtimes.executorch.qnn.rows import (
    QnnProfile,
    QnnRow,
    QnnRun,
    averaged,
    read_text,
    unreadable,
)

__all__ = ["as_number", "loaded", "read_report_json"]

EXECUTE = "BACKEND_EXECUTE"


def read_report_json(path: Path) -> QnnProfile:
    """Each message of an execution is a run. Raises JobFault EV360."""
    data = loaded(path)
    try:
        runs = [_run(each) for each in data["messages"] if each.get("method") == EXECUTE]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"it is not shaped as expected: {type(error).__name__}: {error}"
        raise unreadable(path.name, why) from error
    return averaged(runs, path.name)


def _run(message: dict[str, Any]) -> QnnRun:
    run = QnnRun()
    for event in message["profilingEvents"]:
        run.figures[str(event["identifier"])] = as_number(event["value"])
        for sub in event.get("sub-events", ()):
            if op := op_of(str(sub["identifier"])):
                run.rows.append(QnnRow(op.name, op.id, as_number(sub["value"])))
    return run


def loaded(path: Path) -> Any:
    """Raises JobFault EV360 for what is no JSON."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise unreadable(path.name, f"it is no JSON: {error}") from error


def as_number(value: Any) -> float:
    """Raises ValueError for what is none, or not finite, or under zero."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{str(value)[:40]} is no count")
    return number
