"""Answers that two callers of one model give otherwise because two tokens are all but equal.

Both are asked again up to the step at which they part, where all before it is the same. There the
logits tell: the first two of one side lie nearer to each other than the other side lies to it, and
both sides are otherwise alike. Greedy decoding then takes the one or the other, and neither is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import classify, encode_image, generate
from edgevlm.compiler.reference import MAX_ANSWER

__all__ = ["near_ties"]

#: dB between the logits of both at that step; less would be another function
ALIKE_DB = 10.0


def near_ties(
    model: ExportedModel,
    sides: tuple[PartCaller, PartCaller],
    probes: Sequence[ProbeInput],
    which: Iterable[int],
) -> set[int]:
    """Those of the probes `which`, answered otherwise by the second side, that are such ties."""
    return {i for i in which if _tied(*(_logits(model, side, probes[i]) for side in sides))}


def _logits(model: ExportedModel, parts: PartCaller, probe: ProbeInput) -> list[np.ndarray]:
    """Of every step of the answer, [V] each."""
    if model.contract.kind != "vlm":
        return [classify(parts, probe.pixel_values).reshape(-1)]
    seen: list[np.ndarray] = []
    image = encode_image(model.contract, parts, probe.pixel_values)
    asked = (model.contract, parts, image, probe.before, probe.after, model.processor.eos_ids)
    for _ in generate(*asked, max_new=MAX_ANSWER, on_logits=lambda each: seen.append(each[0])):
        pass
    return seen


def _tied(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    for a, b in zip(ours, theirs, strict=False):  # the answer of one may be shorter
        if a.argmax() != b.argmax():
            first, second = np.sort(a.astype(np.float64))[[-1, -2]]
            apart = np.abs(a.astype(np.float64) - b).max()
            alike = measure(a, b, "logits").sqnr_db >= ALIKE_DB
            return bool(alike and first - second <= 2 * apart)
    return False
