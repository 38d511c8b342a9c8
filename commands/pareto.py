"""The Pareto front of cost against gain: what nothing else beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["front"]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (cost, gain) points that no other dominates, by rising cost.

    A point dominates another if it costs no more and gains no less, and is not its equal. Equals
    stand or fall together. O(n log n). Raises ValueError for what is not finite.
    """
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("a point of a Pareto front is not finite")
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not kept or points[i][1] > points[kept[-1]][1] or points[i] == points[kept[-1]]:
            kept.append(i)
    return kept
