"""CSV of qnn-profile-viewer (--output x.csv), and that of ONNX Runtime's QNN provider.

    Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier
    0,BACKEND,4,COUNT,BACKEND,ROOT,Number of HVX threads used
    0,BACKEND,29239,CYCLES,BACKEND,ROOT,Accelerator (execute) time (cycles)
    0,NODE,6137,CYCLES,BACKEND,SUB-EVENT,fc:OpId_17 (cycles)

A run begins where a figure comes again; a column that is not known is passed over.
https://github.com/microsoft/onnxruntime/pull/18201, .../pull/25987
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from edgevlm.runtimes.executorch.qnn.names import op_of
from edgevlm.runtimes.executorch.qnn.report_json import as_number
from edgevlm.runtimes.executorch.qnn.rows import (
    QnnProfile,
    QnnRow,
    QnnRun,
    averaged,
    read_text,
    unreadable,
)

__all__ = ["parse_csv", "read_csv"]

TIME, LEVEL, EVENT, MESSAGE = "Time", "Event Level", "Event Identifier", "Message"
UNNAMED = ("", "NULL")
MOST_ROWS = 2_000_000


def read_csv(path: Path) -> QnnProfile:
    """Raises JobFault EV360."""
    return parse_csv(read_text(path), path.name)


def parse_csv(text: str, name: str = "the CSV of QNN") -> QnnProfile:
    """Raises JobFault EV360."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        missing = {TIME, LEVEL, EVENT} - {field.strip() for field in reader.fieldnames or ()}
        if missing:
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        runs = _runs({str(k).strip(): v for k, v in row.items()} for row in reader)
    except (ValueError, csv.Error) as error:
        raise unreadable(name, str(error)) from error
    executed = [run for run in runs if run.rows or any(_executed(each) for each in run.figures)]
    return averaged(executed, name)


def _runs(rows: Iterable[dict[str, str]]) -> list[QnnRun]:
    runs = [QnnRun()]
    for count, row in enumerate(rows):
        if count == MOST_ROWS:
            raise ValueError(f"it has more than {MOST_ROWS} rows")
        event = (row.get(EVENT) or "").strip()
        if event in UNNAMED:
            event = (row.get(MESSAGE) or "").strip()
        try:
            told = float(row.get(TIME) or "")
        except ValueError:
            continue  # a line that was cut off, or one without a number
        value = as_number(told)
        if row.get(LEVEL, "") == "ROOT":
            if event in runs[-1].figures:
                runs.append(QnnRun())
            runs[-1].figures[event] = value
        elif op := op_of(event):
            runs[-1].rows.append(QnnRow(op.name, op.id, value))
    return runs


def _executed(figure: str) -> bool:
    return "(execute" in figure or figure == "EXECUTE"
