"""Whether the engines compute what the host's reference computed: part by part, and whole answers.

Floats are compared by signal to noise, as another type rounds otherwise; places and other whole
numbers exactly. Codes of an int8 cache are floats under a scale, and compared like floats.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Mapping

import numpy as np

from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan

__all__ = ["OutputCheck", "check_part", "signal_to_noise"]

EXACT_DB = 200.0  # told for no difference at all; JSON has no infinity


@dataclass
class OutputCheck:
    """One output of one part. db: None for one that is compared exactly."""

    role: str
    name: str
    db: float | None
    floor_db: float
    ok: bool
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        told = "exact" if self.db is None else f"{self.db:6.1f} dB (floor {self.floor_db:.0f})"
        end = "ok" if self.ok else f"DIFFERS {self.why}".rstrip()
        return f"{self.role:<10} {self.name:<20} {told:<22} {end}"


def check_part(
    part: PartPlan, outputs: Mapping[str, Any], wanted: Mapping[str, np.ndarray]
) -> list[OutputCheck]:
    """A row an output that was kept."""
    return [_check(part, name, outputs.get(name), wanted[name]) for name in sorted(wanted)]


def _check(part: PartPlan, name: str, got: Any, wanted: np.ndarray) -> OutputCheck:
    floor = part.floor_db
    if got is None:
        return OutputCheck(part.role, name, None, floor, False, "there is no such output")
    found = np.array(got)
    if found.shape != wanted.shape:
        told = f"shape {found.shape}, wanted {wanted.shape}"
        return OutputCheck(part.role, name, None, floor, False, told)
    if wanted.dtype.kind in "iub" and wanted.dtype != np.int8:
        differ = int((found != wanted).sum())
        why = f"in {differ} of {wanted.size}" if differ else ""
        return OutputCheck(part.role, name, None, floor, not differ, why)
    db = signal_to_noise(wanted, found)
    lost = not np.isfinite(found[np.isfinite(wanted)]).all()
    return OutputCheck(part.role, name, db, floor, db >= floor, "it is not finite" if lost else "")


def signal_to_noise(wanted: np.ndarray, found: np.ndarray) -> float:
    """dB, from -200 to 200, over what is finite in `wanted`; -200 if it is not in `found`."""
    finite = np.isfinite(wanted)
    reference, other = (array[finite].astype(np.float64) for array in (wanted, found))
    # what is infinite on purpose, as a mask is, has to be so here too
    same = np.array_equal(found[np.isinf(wanted)], wanted[np.isinf(wanted)])
    if not same or not np.isfinite(other).all():
        return -EXACT_DB
    signal, noise = float((reference**2).sum()), float(((reference - other) ** 2).sum())
    if noise == 0:
        return EXACT_DB
    if signal == 0:
        return -EXACT_DB
    return max(-EXACT_DB, min(EXACT_DB, 10 * math.log10(signal / noise)))
