"""What a compiler on this host said of artifacts: for a report, a manifest and a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Preflight", "Table"]


@dataclass(frozen=True)
class Table:
    """What people read, in a terminal and on a page: texts, the first of a row is what it is of."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Preflight:
    """`done`: what a compiler took, for the manifest; where there was none, why and what brings it.

    label: which compiler, for what. note: what is still open. table: a row a part. odd: what is not
    as expected, a sentence each. more: for machines, `parts` and whatever the runtime tells.
    predicted: no compiler took anything, rules were applied; so the manifest verifies nothing.
    """

    done: str | None
    missing: str | None = None
    label: str = ""
    note: str = ""
    table: Table | None = None
    odd: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    predicted: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the report of a compile, and record.json."""
        told: dict[str, Any] = {"done": self.done, "missing": self.missing}
        if self.table is not None:
            rows = [list(row) for row in self.table.rows]
            told |= {"label": self.label, "note": self.note, "odd": list(self.odd)}
            told["table"] = {"headings": list(self.table.headings), "rows": rows}
        return told | dict(self.more)
