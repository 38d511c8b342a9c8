"""The rows of a profile by ExecuTorch: ops, delegates' calls and what is in their inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgevlm.devices.stats import percentile

__all__ = ["At", "EtProfile", "MethodProfile", "Row", "Spread", "Unit"]

At = tuple[int, int]  # chain, instruction
Unit = Literal["ms", "cycles", "count"]


@dataclass(frozen=True)
class Spread:
    """Over the runs of a method, of what one run has of it."""

    p50: float
    p90: float
    least: float
    mean: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        p50, p90 = (percentile(ordered, q) for q in (0.5, 0.9))
        return cls(p50, p90, ordered[0], sum(ordered) / len(ordered))


@dataclass(frozen=True)
class Row:
    """One op, delegate call, part of its inside, or figure that a delegate tells of a whole call.

    unit: of the spread: ms, or what a delegate counted itself. calls: in all runs. backend: of the
    delegate; None for ExecuTorch's own kernels. nodes: of our graph, where they can be told.
    """

    method: str
    at: At
    event: str
    kind: Literal["operator", "delegate", "inside", "figure"]
    backend: str | None
    calls: int
    unit: Unit
    spread: Spread
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodProfile:
    """Milliseconds a run, means where they are one figure. operators, delegates: calls a run.

    each_ms: what `execute` is of, in the order in which they ran.
    """

    name: str
    runs: int
    execute: Spread
    operator_ms: float
    delegate_ms: float
    operators: int
    delegates: int
    rows: tuple[Row, ...]
    each_ms: tuple[float, ...] = ()

    @property
    def delegated(self) -> float:
        """Share of the time that delegates had, 0 to 1."""
        return self.delegate_ms / self.execute.mean if self.execute.mean else 0.0


@dataclass(frozen=True)
class EtProfile:
    """broken: runs that have no end. untold: runs that are of one of these methods, nobody knows of
    which. Both are left out. loads_ms: of each method that was loaded, in order."""

    methods: tuple[MethodProfile, ...]
    loads_ms: tuple[float, ...]
    broken: int = 0
    untold: Mapping[tuple[str, ...], int] = field(default_factory=dict)
