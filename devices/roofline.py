"""How long a kernel takes at least, from what a device can do: the larger of two times.

    ms = max(2 x MACs / rate of their dtype, bytes / bandwidth) + launch latency

Everything is moved to and from DRAM once a run: what stays in a cache is faster, a kernel that
reads something twice or wastes its lanes is slower. (Williams et al., 2009, "Roofline")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Bound", "Rates", "Used", "kernel_time", "worst"]

Bound = Literal["compute", "memory", "launch"]


@dataclass(frozen=True)
class Used:
    """A fact that a prediction rests on; `confidence` is None for what was measured just now."""

    what: str
    value: float
    unit: str
    confidence: Literal["A", "B", "C"] | None
    source: str
    note: str | None = None


@dataclass(frozen=True)
class Rates:
    """What one unit of a device does; None where nobody published it."""

    ops: Mapping[str, float | None]  # dtype of a product -> operations a second
    bandwidth: float | None  # bytes a second
    launch: float  # seconds from one kernel to the next
    width: int  # bytes of a float there
    used: tuple[Used, ...] = ()
    notes: tuple[str, ...] = ()
    partial: bool = False  # something is unknown, so that times are lower bounds


def kernel_time(
    macs: int, dtype: str, moved: int, rates: Rates
) -> tuple[float | None, Bound | None]:
    """Seconds of a kernel with so many products, moving so many bytes, and what they go into.

    (None, None) where neither of the two times can be told.
    """
    rate = rates.ops.get(dtype)
    compute = 2 * macs / rate if rate else None
    memory = moved / rates.bandwidth if rates.bandwidth else None
    if compute is None and memory is None:
        return None, None
    longest = max(compute or 0.0, memory or 0.0)
    if rates.launch > longest:
        bound: Bound = "launch"
    else:
        bound = "compute" if (compute or 0.0) >= (memory or 0.0) else "memory"
    return longest + rates.launch, bound


def worst(used: tuple[Used, ...]) -> Literal["A", "B", "C"] | None:
    """The letter of the least sure fact; None where there is none."""
    return max((fact.confidence for fact in used if fact.confidence), default=None)
