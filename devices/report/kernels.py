"""What a compiler on the host made of each part: its preflight, kernels expected against found."""

from __future__ import annotations

from typing import Any

from edgevlm.devices.report.recorded import PreflightPart
from edgevlm.devices.report.subject import Subject
from edgevlm.devices.report.words import figure

__all__ = ["kernels_view"]


def kernels_view(subject: Subject) -> dict[str, Any] | None:
    """For the template; None where there was no preflight."""
    told = subject.record.preflight
    if told is None or not told.done:
        return None
    return {
        "label": told.label or told.done,
        "rows": [_row(part) for part in told.parts],
        "odd": list(told.odd),
    }


def _row(part: PreflightPart) -> dict[str, str]:
    """Products of the graph by what they multiply, kernels of attention against those expected."""
    found = part.summary
    narrow = [
        f"{found[f'{kind}_gemm']} {kind}"
        for kind in ("int8", "fp8", "int4")
        if found.get(f"{kind}_gemm")
    ]
    wanted = next((e.wanted for e in part.expects if e.what == "mha"), 0)
    return {
        "role": part.role,
        "layers": f"{part.network_layers:,} → {found.get('layers', 0):,}",
        "products": str(found.get("gemm", 0)),
        "narrow": ", ".join(narrow) or "none",
        "attention": f"{found.get('mha', 0)} of {wanted}",
        "mb": figure(part.engine_bytes / 1e6),
        "seconds": figure((part.parse_s or 0) + (part.build_s or 0)),
    }
