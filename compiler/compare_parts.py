"""Two sides that run the parts of a model, compared part by part on what a model was seen to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.compiler.drift import Drift, worst
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.matching import Compared, compare_outputs
from edgevlm.compiler.reference import Reference

__all__ = ["compare_parts"]


def compare_parts(
    before: PartCaller, after: PartCaller, reference: Reference, roles: Sequence[Role]
) -> dict[Role, Drift]:
    """Feed both sides the reference's inputs, part by part; the worst output of each.

    An output behind a choice that differs counts on the probes where the choices are the same; by
    the rows of the tokens both kept, where there is no such probe. The overlap of a part is its
    smallest over all probes, whichever probe has the worst output.
    """
    found: dict[Role, Drift] = {}
    for role in roles:
        seen: list[Compared] = []
        overlaps: list[float] = []
        for feeds in reference.fed(role):
            start = int(feeds["image_start"][0]) if "image_start" in feeds else 0
            sides = [_fetched(side.call(role, feeds)) for side in (before, after)]
            outputs, overlap = compare_outputs(*sides, reference.contract, start)
            seen += outputs
            overlaps += [] if overlap is None else [overlap]
        if seen:
            clean = {c.drift.where for c in seen if not c.behind}
            judged = [c.drift for c in seen if not c.behind or c.drift.where not in clean]
            found[role] = replace(worst(judged), overlap=min(overlaps, default=None))
    return found


def _fetched(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """As arrays of this host; a runtime may hold some of them."""
    return {name: np.asarray(value) for name, value in outputs.items()}
