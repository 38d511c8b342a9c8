"""Does it hold its pace? Requests of the beginning against those of the end of a run.

A device that gets hot answers more slowly after a minute than in the first second, so a short run
flatters it. Medians of the first and the last third are compared, each with its 95 % interval; it
got slower where these lie apart and the medians differ by more than `LEAST`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgevlm.devices.stats import middle

__all__ = ["LEAST", "LEAST_REQUESTS", "sustained"]

LEAST = 0.03  # of the time at the beginning
LEAST_REQUESTS = 30


def sustained(seconds: Sequence[float]) -> dict[str, Any] | None:
    """Of the times of requests, in order; None for fewer than `LEAST_REQUESTS`."""
    if len(seconds) < LEAST_REQUESTS:
        return None
    third = len(seconds) // 3
    first, last = middle(seconds[:third]), middle(seconds[-third:])
    ratio = last.median / first.median if first.median > 0 else None
    return {
        "first_ms": first.median * 1e3,
        "last_ms": last.median * 1e3,
        "ratio": ratio,
        "slower": ratio is not None and last.low > first.high and ratio > 1 + LEAST,
        "n": third,
    }
