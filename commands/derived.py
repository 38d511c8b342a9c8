"""What a derived classifier is worth: base, base + head mask and itself, on pictures held out.

Every fifth calibration picture of a class is shown to nothing that fits or chooses. On these the
base says the likeliest of all its classes; with its head masked, the likeliest of the classes asked
for, which costs nothing and is the fair baseline; and the artifacts say what they say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.class_names import chosen, names_of
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.memo import Memo
from edgevlm.compiler.pass_base import Pass
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.models.answer import Viewer
from edgevlm.models.calibration import by_class
from edgevlm.passes.derive.asked import Derived

__all__ = [
    "HELD",
    "Split",
    "compare_derived",
    "saying_no_more",
    "split_pictures",
    "vision_costs",
    "with_probes_of",
]

HELD = 5  # every fifth picture of a class


@dataclass(frozen=True)
class Split:
    """Pictures that a model is fitted to, and pictures that tell how good it is."""

    fit: tuple[Probe, ...]
    held: tuple[Probe, ...] = ()


def split_pictures(probes: Sequence[Probe], asked: Derived | None, model: ExportedModel) -> Split:
    """Of the classes asked for alone. Raises EV135 (unknown classes), EV139 (none of a class)."""
    if asked is None or model.contract.kind != "classifier":
        return Split(tuple(probes))
    names = names_of(model)
    wanted = _wanted(names, asked)
    places = by_class(probes)
    if not asked.classes and not places:  # all classes, and nobody says which is which
        return Split(tuple(probes))
    missing = [name for name in wanted if len(places.get(name, ())) < HELD]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UsageFault(
            "EV139",
            f"{', '.join(missing[:3])}{more}: fewer than {HELD} calibration pictures",
            "a model is derived from pictures of every class that it is for"
            + ("" if places else "; these pictures have no class: they need a sub-folder for each"),
            f"--calib FOLDER with FOLDER/{missing[0]}/*.png, or other --classes",
        )
    held = {place for name in wanted for place in places[name][HELD - 1 :: HELD]}
    mine = sorted(place for name in wanted for place in places[name])
    return Split(
        tuple(probes[i] for i in mine if i not in held), tuple(probes[i] for i in sorted(held))
    )


def with_probes_of(model: ExportedModel, asked: Derived | None) -> ExportedModel:
    """With the probes that show one of the classes asked for, where there are any."""
    if not (asked and asked.classes) or model.contract.kind != "classifier":
        return model
    names = names_of(model)
    wanted = _wanted(names, asked)
    mine = tuple(p for p in model.probes if p.answer is None or p.answer in wanted)
    return replace(model, probes=mine or model.probes)


def saying_no_more(model: ExportedModel, passes: Sequence[Pass]) -> ExportedModel:
    """The source with the bundle's classes alone: what the bundle is held against."""
    return apply_unchecked(model, [step for step in passes if step.name == "keep-classes"])


def compare_derived(
    original: ExportedModel, model: ExportedModel, parts: PartCaller, split: Split, said: Memo
) -> dict[str, Any] | None:
    """The three side by side; None where no picture was held out.

    original: the same compile, without what derives. said: what it said of pictures before.
    """
    if not split.held:
        return None
    names, mine = names_of(original), names_of(model)
    among = [names.index(name) for name in mine]
    base = Viewer(original.contract, original.processor, ReferenceParts(original.parts))
    made = Viewer(model.contract, model.processor, parts)
    truth = np.array([mine.index(probe.answer) for probe in split.held])

    def base_says(image: np.ndarray) -> np.ndarray:
        key = f"{image.shape} {hashlib.sha256(np.ascontiguousarray(image)).hexdigest()}"
        return said.kept(key, lambda: base.look(image), lambda logits: logits.nbytes)

    logits = np.concatenate([base_says(probe.image) for probe in split.held])
    derived = np.concatenate([made.look(probe.image) for probe in split.held])
    right = {
        "base": logits.argmax(1) == np.array(among)[truth],
        "base_head_mask": logits[:, among].argmax(1) == truth,
        "derived": derived.argmax(1) == truth,
    }
    return {
        "kind": "classes",
        "classes": list(mine),
        "of": len(names),
        "fitted_to": len(split.fit),
        "held_out": len(split.held),
        "right": {name: int(each.sum()) for name, each in right.items()},
        "accuracy": {name: round(float(each.mean()), 4) for name, each in right.items()},
        **vision_costs(original, model),
        "how": "measured-host",
    }


def vision_costs(original: ExportedModel, model: ExportedModel) -> dict[str, dict[str, int]]:
    """Multiplications and bytes of the vision part, before and after."""
    costs = {"base": count(original.parts["vision"]), "derived": count(model.parts["vision"])}
    return {
        "macs": {name: cost.macs for name, cost in costs.items()},
        "weight_bytes": {name: cost.weight_bytes for name, cost in costs.items()},
    }


def _wanted(names: Sequence[str], asked: Derived) -> list[str]:
    """The classes asked for, in the model's spelling; all of them where none were."""
    if not asked.classes:
        return list(names)
    return [names[i] for i in chosen(names, asked.classes, all_allowed=False)]
