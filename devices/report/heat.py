"""Temperatures over the time of a profile, as lines; each zone by its name and its own dashes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from markupsafe import Markup

from edgevlm.devices.report.measured import Thermal
from edgevlm.devices.report.scatter import ticks

__all__ = ["heat_lines"]

WIDE, HIGH = 420.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 404.0, 12.0, 150.0
ZONES, SAMPLES = 6, 300  # that are drawn; the hottest zones are
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")


def heat_lines(thermal: Thermal) -> dict[str, Any] | None:
    """For the template's `heat`; None where there is nothing to draw a line through."""
    zones: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in thermal.series:
        zones[row.zone].append((row.at_s, row.celsius))
    hottest = sorted(zones, key=lambda z: (-max(c for _, c in zones[z]), z))
    drawn = [z for z in hottest if len(zones[z]) > 1][:ZONES]
    if not drawn:
        return None
    every = [at for z in drawn for at in zones[z]]
    end = max(t for t, _ in every) or 1.0
    low, high = min(c for _, c in every) - 1, max(c for _, c in every) + 1

    def place(t: float, celsius: float) -> str:
        x = LEFT + (RIGHT - LEFT) * t / end
        y = BOTTOM - (BOTTOM - TOP) * (celsius - low) / (high - low)
        return f"{x:.1f} {y:.1f}"

    lines = []
    for zone, dash in zip(drawn, DASHES, strict=False):
        rows = sorted(zones[zone])
        rows = rows[:: len(rows) // SAMPLES + 1]
        values = [c for _, c in zones[zone]]
        lines.append({
            "zone": zone or "unnamed", "dash": dash, "first": f"{rows[0][1]:.1f}",
            "top": f"{max(values):.1f}",
            "path": Markup("M" + "L".join(place(*row) for row in rows)),
        })  # fmt: skip
    scale = ticks(low, high, 4)
    return {
        "box": f"0 0 {WIDE:.0f} {HIGH:.0f}",
        "left": LEFT, "right": RIGHT, "bottom": BOTTOM,
        "x_ticks": [(place(t, low).split()[0], f"{t:g}") for t in ticks(0, end)],
        "y_ticks": [(place(0, c).split()[1], f"{c:g}") for c in scale],
        "lines": lines,
        "left_out": len(zones) - len(drawn),
    }  # fmt: skip
