"""What each pass did to the model, and how far it moved the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgevlm.devices.report.recorded import Drift, PassRecord
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.words import decibel, short

__all__ = ["part_rows", "pass_rows"]

FULL_DB = 140.0  # at which a bar is full; float32 rounding is about there
NOTES = 12


def pass_rows(subject: Subject) -> list[dict[str, Any]]:
    """In the order they ran: of the record, or of the manifest alone where there is none."""
    recorded = [_row(entry) for entry in subject.record.passes]
    if recorded:
        return recorded
    told = [
        PassRecord.model_validate({key: p[key] for key in ("name", "effect", "options", "changed")})
        for p in subject.passes
    ]
    return [_row(entry) for entry in told]


def _row(entry: PassRecord) -> dict[str, Any]:
    check = entry.check
    drifts = list(check.parts.items()) if check else []
    if check and not drifts and check.logits:
        drifts = [("logits of whole answers", check.logits)]
    known = [d for _, d in drifts if d.sqnr_db is not None]
    worst = min(known, key=lambda d: d.sqnr_db or 0, default=None)
    return {
        "name": entry.name,
        "effect": entry.effect,
        "changed": entry.changed,
        "options": _options(entry.options),
        "seconds": "–" if entry.seconds is None else f"{entry.seconds:.2f}",
        "worst": decibel(worst.sqnr_db) if worst else "–",
        "cosine": _cosine(worst),
        "bar": _bar(worst),
        "agree": f"{check.answers_agree} of {check.probes}" if check and check.probes else "–",
        "parts": [_drift(role, drift) for role, drift in drifts],
        "notes": [
            {"kind": n.kind, "where": short(n.where, 80), "why": n.why} for n in entry.notes[:NOTES]
        ],
        "more_notes": max(0, len(entry.notes) - NOTES),
    }


def part_rows(subject: Subject) -> list[dict[str, Any]]:
    """The finished artifacts, part by part."""
    return [
        {
            **_drift(part.role, part.drift),
            "mb": f"{part.bytes / 1e6:.2f}",
            "mmac": f"{part.macs / 1e6:,.1f}",
            "nodes": f"{part.nodes:,}",
            "against": part.drift.against or "–",
        }
        for part in subject.record.parts
    ]


def _drift(role: str, drift: Drift) -> dict[str, Any]:
    return {
        "role": role,
        "db": decibel(drift.sqnr_db),
        "bar": _bar(drift),
        "cosine": _cosine(drift),
        "tensor": drift.tensor or "–",
        "overlap": "–" if drift.token_overlap is None else f"{drift.token_overlap:.2f}",
    }


def _bar(drift: Drift | None) -> str | None:
    if drift is None or drift.sqnr_db is None:
        return None
    return f"{max(0.0, min(100.0, 100 * drift.sqnr_db / FULL_DB)):.1f}%"


def _cosine(drift: Drift | None) -> str:
    return "–" if drift is None or drift.cosine is None else f"{drift.cosine:.6f}"


def _options(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (short(key, 60), short(v if isinstance(v, str) else json.dumps(v), 160))
        for key, v in list(options.items())[:40]
    ]
