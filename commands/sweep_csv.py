"""The cells of a sweep as a table that any tool reads: sweep.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edgevlm.commands.sweep_grid import AXES
from edgevlm.commands.sweep_record import Cell, Size

__all__ = ["csv_text"]


def csv_text(cells: Sequence[Cell]) -> str:
    """A row a cell; empty where a figure is not known."""
    keys = [key for key in AXES if any(key in cell.options for cell in cells)]
    rows = [_row(cell, keys) for cell in cells]
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def _row(cell: Cell, keys: list[str]) -> dict[str, object]:
    size, score, timing, fault = (
        vars(part) if part else {} for part in (cell.size, cell.score, cell.timing, cell.fault)
    )
    stages = timing.get("stages", {})
    return {
        "cell": cell.name,
        "status": cell.status,
        **{key: cell.options.get(key) for key in keys},
        **{name: size.get(name) for name in Size.model_fields},
        "score": "accuracy" if cell.accuracy else "agreement" if score else None,
        **{name: score.get(name) for name in ("accuracy", "low", "high", "correct", "n")},
        "x_ms": cell.x_ms,
        **{name: timing.get(name) for name in ("ttft_ms", "baseline_ms", "ratio")},
        "ratio_low": timing.get("low"),
        "ratio_high": timing.get("high"),
        "decode_ms": timing.get("decode_ms"),
        **{f"{s}_ms": stages.get(s) for s in ("preprocess", "vision", "connector", "prefill")},
        "on_front": cell.on_front,
        "bundle": cell.bundle,
        **{name: fault.get(name) for name in ("code", "what", "why", "next")},
    }
