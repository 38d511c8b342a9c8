"""The proof after every pass: the probe set through the model before and after, part by part.

    exact         same inputs to each part, outputs equal to rounding (EXACT_FLOOR_DB); same answers
                  (a part that rounds what it computes: with the rounding left out; with it, what
                  such a part may stray from itself, rounding_noise.py)
    approximate   the same comparison, bounded below by `min_sqnr`; answers counted; caches may
                  become int8, and are compared as the numbers that their codes stand for
    structural    shapes differ, so logits and answers of the whole chain are compared and recorded

A pass over its tolerance stops the compile, naming the first node whose value strayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.cache_units import relative_units, to_units
from edgevlm.compiler.class_names import names_of
from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import Drift, measure, worst
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.narrow_cache import cache_scales, float_ports, float_sides
from edgevlm.compiler.pass_base import Effect
from edgevlm.compiler.quantised import rounds_activations
from edgevlm.compiler.reference import Reference, observe
from edgevlm.compiler.rounding_noise import ROUNDING_FLOOR_DB, rounding_floor
from edgevlm.compiler.stray import first_stray
from edgevlm.compiler.without_rounding import without_rounding

__all__ = [
    "EXACT_FLOOR_DB",
    "Check",
    "answered_otherwise",
    "check_pass",
    "chosen_otherwise",
]

#: dB; float32 rounding of a reordered sum stays well above this, a wrong graph far below
EXACT_FLOOR_DB = 80.0


@dataclass(frozen=True)
class Check:
    """What one comparison found. `drift` is the worst output of each part over all probes."""

    drift: dict[Role, Drift] = field(default_factory=dict)
    logits: Drift | None = None
    agree: int = 0  # probes with the same answer, token for token
    probes: int = 0

    def as_json(self) -> dict[str, object]:
        return {
            "parts": {role: d.as_json() for role, d in self.drift.items()},
            "logits": self.logits.as_json() if self.logits else None,
            "answers_agree": self.agree,
            "probes": self.probes,
            "how": "measured-host",
        }

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Check:
        """As `as_json` rounded it."""
        drift = {role: Drift.of_json(each) for role, each in data["parts"].items()}
        logits = data["logits"] and Drift.of_json(data["logits"])
        return cls(drift, logits, data["answers_agree"], data["probes"])


def chosen_otherwise(a: Reference, b: Reference) -> list[bool]:
    """Of each probe: whether some selector kept other tokens."""
    return [
        any(not np.array_equal(x[name], y[name]) for name in x)
        for x, y in zip(a.choices, b.choices, strict=True)
    ]


def answered_otherwise(a: Reference, b: Reference) -> set[int]:
    """Probes with another answer though every choice was the same: that is no rounding."""
    probes = zip(a.answers, b.answers, chosen_otherwise(a, b), strict=True)
    return {i for i, (x, y, otherwise) in enumerate(probes) if x != y and not otherwise}


def check_pass(
    name: str,
    effect: Effect,
    before: ExportedModel,
    after: ExportedModel,
    reference: Reference,
    probes: Sequence[ProbeInput],
    min_sqnr: float,
) -> tuple[Check, Reference]:
    """Judge a pass; returns the finding and the observation of the new model.

    Raises EV206 (drift) or EV207 (answers) for a pass that strayed further than its effect allows,
    EV501 for one that claims to keep the function and changes the contract.
    """
    rounded = effect is Effect.APPROXIMATE and before.contract == float_ports(after.contract)
    kept = rounded or after.contract == before.contract
    if effect is not Effect.STRUCTURAL and not kept:
        raise JobFault(
            "EV501",
            f"pass {name} changed the contract",
            f"its effect is {effect.value}: shapes and budgets must stay",
            "declare Effect.STRUCTURAL, or leave the contract alone",
        )
    drift: dict[Role, Drift] = {}
    if effect is not Effect.STRUCTURAL:
        changed = [r for r in after.parts if after.parts[r] is not before.parts[r]]
        scales = cache_scales(after) if rounded else {}
        sides = float_sides(before, after, ReferenceParts(after.parts), scales)
        drift = compare_parts(*sides, reference, changed)
        for role, found in drift.items():
            floor = EXACT_FLOOR_DB if effect is Effect.EXACT else min_sqnr
            if effect is Effect.EXACT and found.sqnr_db < floor:
                floor = _floor_where_rounded(before, after, reference, role)
            if found.sqnr_db < floor:
                units = relative_units(before, after)
                both = [(feeds, to_units(feeds, units)) for feeds in reference.fed(role)]
                node = first_stray(before.parts[role], after.parts[role], both, floor, scales)
                raise JobFault(
                    "EV206",
                    f"pass {name} changed part {role}, output {found.where}",
                    f"SQNR {found.sqnr_db:.1f} dB is under {floor:.0f} dB; first strayed at {node}",
                    "edgevlm compile ... --min-sqnr DB, or leave the pass out of the recipe",
                )
    seen = observe(after, probes)
    if before.contract.vocabulary != after.contract.vocabulary:  # classes went
        reference = reference.among([names_of(before).index(name) for name in names_of(after)])
    pairs = list(zip(reference.logits, seen.logits, strict=True))
    broken = sum(np.isfinite(a).all() and not np.isfinite(b).all() for a, b in pairs)
    if broken:
        raise JobFault(
            "EV206",
            f"pass {name} made logits that are not finite",
            f"on {broken} of {len(probes)} probes, where they were finite before",
            "leave the pass out of the recipe, and please report this with the recipe",
        )
    agree = sum(a == b for a, b in zip(reference.answers, seen.answers, strict=True))
    strayed = answered_otherwise(reference, seen) if effect is Effect.EXACT else set()
    if strayed:
        raise JobFault(
            "EV207",
            f"pass {name} changed {len(strayed)} of {len(probes)} answers",
            "it claims to keep the function exactly",
            "please report this with the recipe",
        )
    logits = worst([measure(a, b, "logits") for a, b in pairs])
    return Check(drift, logits, agree, len(probes)), seen


def _floor_where_rounded(
    before: ExportedModel, after: ExportedModel, reference: Reference, role: Role
) -> float:
    """dB that an exact rewrite of a part has to keep, of one that rounds what it computes."""
    parts = before.parts[role], after.parts[role]
    if not all(map(rounds_activations, parts)):
        return EXACT_FLOOR_DB
    sides = [ReferenceParts({role: without_rounding(part)}) for part in parts]
    if compare_parts(*sides, reference, [role])[role].sqnr_db < EXACT_FLOOR_DB:
        return EXACT_FLOOR_DB
    return rounding_floor(ReferenceParts(before.parts), reference, role, ROUNDING_FLOOR_DB)
