"""What a runtime's own program times on a device that has no Python: part by part, not requests.

commands/bench_there.py asks for it, a runtime that `has_runner` does it (runtimes/base.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgevlm.compiler.contract import Role

if TYPE_CHECKING:
    import numpy as np

    from edgevlm.runtimes.base import LayerTime

__all__ = ["Asked", "Benched", "Run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """runs: of each part, behind `warm_up` that do not count. feeds: of each, those of one request.

    runner: a program of this machine that is taken along, else the one that is there.
    """

    runs: int
    warm_up: int
    runner: Path | None = None
    feeds: Mapping[Role, Mapping[str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Benched:
    """seconds: of each run of each part, in order. outputs: of parts whose numbers came back.

    program: its name. floors: dB against the host's that the outputs of a part must have. unseen:
    part -> why its outputs are held against nothing. notes: what the figures rest on.
    """

    program: str
    seconds: Mapping[Role, Sequence[float]]
    loads_ms: Mapping[Role, float]
    layers: Sequence[LayerTime]
    outputs: Mapping[Role, Mapping[str, np.ndarray]]
    floors: Mapping[Role, float]
    unseen: Mapping[Role, str]
    notes: Sequence[str]


#: does it, once all is there; progress: parts done, parts in all
Run = Callable[[Progress], Benched]
