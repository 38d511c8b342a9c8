"""Whether the engines compute what the host's reference computed: part by part, and whole answers.

Floats are compared by signal to noise, as another type rounds otherwise; places and other whole
numbers exactly. Codes of an int8 cache are floats under a scale, and compared like floats.

Two image tokens may be all but equal, and rounding then decides which one is kept: that is told and
let pass while most are the same, and what lies behind it cannot be compared (compiler/matching.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from edgevlm.runtimes.tensorrt.on_device.plan import PartPlan
from edgevlm.runtimes.tensorrt.on_device.tensors import Tensors

__all__ = ["OutputCheck", "alike_choice", "check_part", "check_parts", "signal_to_noise"]

INDEX = "image_index"  # outputs that say which image tokens were kept; prefill has one a layer
LEAST_OVERLAP = 0.5  # of the kept tokens (Jaccard), if more than one is another
EXACT_DB = 200.0  # told for no difference at all; JSON has no infinity


@dataclass
class OutputCheck:
    """One output of one part. db: None for one that is compared exactly, or not at all (note)."""

    role: str
    name: str
    db: float | None
    floor_db: float
    ok: bool
    why: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        told = "exact" if self.db is None else f"{self.db:6.1f} dB (floor {self.floor_db:.0f})"
        told = "-" if self.note else told
        end = f"ok {self.note}".rstrip() if self.ok else f"DIFFERS {self.why}".rstrip()
        return f"{self.role:<10} {self.name:<20} {told:<22} {end}"


def check_part(
    part: PartPlan, outputs: Mapping[str, Any], wanted: Mapping[str, np.ndarray]
) -> list[OutputCheck]:
    """A row an output that was kept."""
    rows = {name: _check(part, name, outputs.get(name), wanted[name]) for name in sorted(wanted)}
    chosen = sorted((n for n in wanted if n.startswith(INDEX)), key=_layer)
    first = next((name for name in chosen if not rows[name].ok), None)
    if first is not None and alike_choice(outputs.get(first), wanted[first]):
        why = rows[first].why
        for name in filter(lambda name: _stands_behind(name, first), rows):
            rows[name] = _uncompared(part, name, outputs.get(name), wanted[name], first)
        rows[first] = OutputCheck(
            part.role, first, None, part.floor_db, True, note=f"other tokens kept, {why}"
        )
    return list(rows.values())


def check_parts(plans: Sequence[PartPlan], parts: Any, tensors: Tensors) -> list[OutputCheck]:
    """The one call of every part that the host kept."""
    checks = []
    for part in plans:
        feeds = tensors.of_part(part.role, "in")
        if feeds:
            outputs = parts.call(part.role, feeds)
            checks += check_part(part, outputs, tensors.of_part(part.role, "out"))
    return checks


def alike_choice(got: Any, wanted: np.ndarray) -> bool:
    """Whether two lists of kept tokens are so by rounding: one is another, or most are the same."""
    found = np.asarray(got)
    if found.shape != wanted.shape or found.dtype.kind not in "iu" or (np.diff(found) < 1).any():
        return False
    shared = len(np.intersect1d(found, wanted))
    others = wanted.size - shared
    return shared > 0 and (others <= 1 or shared / (wanted.size + others) >= LEAST_OVERLAP)


def _layer(choice: str) -> int:
    """Of a choice within prefill; -1 of the only one of another part."""
    told = choice[len(INDEX) + 1 :]
    return int(told) if told.isdigit() else -1


def _stands_behind(output: str, choice: str) -> bool:
    """All does but the choice itself, and in prefill the caches and choices of earlier layers."""
    kind, _, told = output.rpartition("_")
    own = int(told) if told.isdigit() and kind in ("key", "value", INDEX) else None
    return output != choice and (own is None or own >= _layer(choice))


def _uncompared(
    part: PartPlan, name: str, got: Any, wanted: np.ndarray, choice: str
) -> OutputCheck:
    """Of other tokens there are other numbers; but as many, and numbers."""
    found = np.array(got)
    whole = got is not None and found.shape == wanted.shape
    if whole and found.dtype.kind == "f":
        whole = bool(np.isfinite(found).all() or not np.isfinite(wanted).all())
    note = f"behind {choice}, not compared"
    if whole:
        return OutputCheck(part.role, name, None, part.floor_db, True, note=note)
    return OutputCheck(
        part.role, name, None, part.floor_db, False, "it is not finite, or not there"
    )


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
