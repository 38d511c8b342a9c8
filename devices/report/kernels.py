"""What a compiler on the host made of each part: the table of a preflight, whichever runtime's.

Headings and cells are the runtime's own texts, which the terminal shows as well. Here only the
columns of figures are found.
"""

from __future__ import annotations

import re
from typing import Any

from edgevlm.devices.report.recorded import PreflightTable
from edgevlm.devices.report.subject import Subject

__all__ = ["kernels_view"]

#: 47; 5.11; 1,465 -> 47; 3 of 4; 97.5 %
FIGURE = re.compile(r"[\d.,]+( (->|of) [\d.,]+)?( ?%)?")


def kernels_view(subject: Subject) -> dict[str, Any] | None:
    """For the template; None where there was no preflight. Older records have no table."""
    told = subject.record.preflight
    if told is None or not told.done:
        return None
    return {
        "label": told.label or told.done,
        "note": told.note,
        "table": told.table and _table(told.table),
        "odd": list(told.odd),
    }


def _table(told: PreflightTable) -> dict[str, Any]:
    columns = list(zip(*told.rows, strict=True)) or [() for _ in told.headings]
    numbers = [all(FIGURE.fullmatch(cell) for cell in column) for column in columns]
    kinds = ["num" if i and number else "" for i, number in enumerate(numbers)]
    return {
        "headings": list(zip(map(_arrow, told.headings), kinds, strict=True)),
        "rows": [list(zip(map(_arrow, row), kinds, strict=True)) for row in told.rows],
    }


def _arrow(text: str) -> str:
    return text.replace(" -> ", " → ")
