"""Where things of a scatter plot go: axes, points with their intervals, labels that do not collide.

Geometry alone, in units of a 420 x 300 box; the template draws it, so that colours are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from edgevlm.devices.report.words import short

__all__ = ["Point", "scatter", "ticks"]

WIDE, HIGH = 420.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 404.0, 30.0, 254.0
LETTER, LINE = 6.8, 14.0  # size of a label's letters
LABEL = 20  # letters of a label
LEAST_SPAN = 4.0  # percent; a smaller difference must not look like a large one
#: where a label may stand: (distance, angles in degrees), nearest first
RINGS = tuple((r, a) for r in (12, 22, 34, 50) for a in (0, 180, 90, 270, 45, 315, 135, 225))


@dataclass(frozen=True)
class Point:
    name: str
    x: float
    y: float
    low: float  # of y
    high: float
    best: bool  # on the front
    sure: bool  # measured
    title: str


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [round((first + i) * step, 12) for i in range(count + 1)]


def scatter(points: Sequence[Point], x_title: str, y_title: str) -> dict[str, Any]:
    """Costs grow to the right from 0, gains upwards in percent; for the template's `scatter`."""
    top_x = max(p.x for p in points) * 1.12 or 1.0
    low, high = min(p.low for p in points), max(p.high for p in points)
    low = max(0.0, min(low, high - LEAST_SPAN))
    high = max(high, low + LEAST_SPAN)
    low_y, high_y = max(0.0, low - 0.06 * (high - low)), high + 0.08 * (high - low)

    def x_of(x: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * x / top_x, 2)

    def y_of(y: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (y - low_y) / (high_y - low_y), 2)

    spots = [
        {"name": p.name, "x": x_of(p.x), "y": y_of(p.y), "low": y_of(p.low), "high": y_of(p.high),
         "best": p.best, "sure": p.sure, "title": p.title}
        for p in points
    ]  # fmt: skip
    spots.sort(key=lambda s: s["best"])  # drawn last, and so on top
    _label(spots, [short(s["name"], LABEL) for s in spots])
    front = sorted({(s["x"], s["y"]) for s in spots if s["best"]})
    return {
        "box": f"0 0 {WIDE:.0f} {HIGH:.0f}",
        "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM,
        "x_ticks": [(x_of(t), f"{t:,g}") for t in ticks(0, top_x)],
        "y_ticks": [(y_of(t), f"{t:g}") for t in ticks(low_y, min(100.0, high_y))],
        "x_title": x_title, "y_title": y_title,
        "spots": spots,
        "front": Markup(_steps(front)),
        "guesses": any(not p.sure for p in points),
    }  # fmt: skip


def _steps(front: Sequence[tuple[float, float]]) -> str:
    """The border of what is beaten: what costs this much can be had this right."""
    path = ""
    for i, (x, y) in enumerate(front):
        path += f"L{x} {front[i - 1][1]}L{x} {y}" if i else f"M{x} {y}"
    return path


def _label(spots: list[dict[str, Any]], names: Sequence[str]) -> None:
    """The front's first; each where it meets the fewest points and labels, the nearest of such."""
    taken = [(s["x"] - 6, s["y"] - 6, s["x"] + 6, s["y"] + 6) for s in spots]
    lines = [(s["x"] - 2, s["high"], s["x"] + 2, s["low"]) for s in spots]
    for i in reversed(range(len(spots))):
        spot, wide = spots[i], LETTER * len(names[i])
        places = [_place(spot, radius, angle, wide) for radius, angle in RINGS]
        cost = [
            3 * sum(_meet(box, other) for other in taken)
            + sum(_meet(box, line) for line in lines)
            + 9 * _outside(box)
            for box in places
        ]
        k = cost.index(min(cost))
        x0, y0, x1, y1 = places[k]
        taken.append(places[k])
        spot |= {
            "label": names[i],
            "tx": round((x0 + x1) / 2, 2),
            "ty": round((y0 + y1) / 2, 2),
            "leader": RINGS[k][0] > 22,
        }


def _place(spot: dict[str, Any], radius: float, angle: float, wide: float) -> tuple[float, ...]:
    """The label's box: its nearest edge is `radius` away."""
    dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    x = spot["x"] + dx * (radius + wide / 2)
    y = spot["y"] + dy * (radius + LINE / 2 - 4 * (abs(dy) > 0.9))
    return x - wide / 2, y - LINE / 2, x + wide / 2, y + LINE / 2


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _outside(box: tuple[float, ...]) -> bool:
    return box[0] < LEFT or box[2] > WIDE or box[1] < 0 or box[3] > BOTTOM
