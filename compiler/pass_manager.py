"""Runs a recipe: every pass in order, each followed by its check, each recorded."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_base import Note, Pass
from edgevlm.compiler.reference import Reference, observe, shown
from edgevlm.compiler.validate import validate
from edgevlm.compiler.verify import Check, check_pass

__all__ = ["Applied", "Originals", "apply_unchecked", "first_of", "run_passes"]


@dataclass(frozen=True)
class Applied:
    """What one pass did. `check` is None where it changed nothing."""

    name: str
    effect: str
    options: dict[str, object]
    changed: bool
    notes: tuple[Note, ...]
    check: Check | None
    seconds: float

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "effect": self.effect,
            "options": self.options,
            "changed": self.changed,
            "seconds": round(self.seconds, 3),
            "notes": [vars(note) for note in self.notes],
            "check": self.check.as_json() if self.check else None,
        }

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Applied:
        """What an earlier run wrote down."""
        check, notes = data["check"], tuple(Note(**note) for note in data["notes"])
        return cls(
            **{key: data[key] for key in ("name", "effect", "options", "changed", "seconds")},
            notes=notes,
            check=check and Check.of_json(check),
        )


def first_of(passes: Sequence[Pass], names: Collection[str]) -> int:
    """Which of the passes is the first of these; their number where none is."""
    return next((i for i, step in enumerate(passes) if step.name in names), len(passes))


class Originals:
    """The models in front of passes that a later one goes by, over several runs of one recipe."""

    def __init__(self, passes: Sequence[Pass]) -> None:
        self._wanted = {name for step in passes for name in step.since}
        self._models: dict[str, ExportedModel] = {}

    def show(self, step: Pass, model: ExportedModel) -> None:
        known = [self._models[name] for name in step.since if name in self._models]
        step.original = known[0] if known else None
        if step.name in self._wanted:
            self._models.setdefault(step.name, model)


Probes = Sequence[ProbeInput] | Callable[[ExportedModel], Sequence[ProbeInput]]


def run_passes(
    model: ExportedModel,
    passes: Sequence[Pass],
    probes: Probes,
    *,
    calibration: Probes | None = None,
    seen: Reference | None = None,
    originals: Originals | None = None,
    min_sqnr: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[ExportedModel, list[Applied], Reference]:
    """Returns the final model, the record of each pass, and what the final model did on the probes.

    probes: or what makes them for a model, needed where a pass changes the size of its pictures.
    calibration: for passes that fit numbers to inputs; the probes where it is None. seen: what the
    model did on the probes, where that is known. originals: of a recipe that is run in parts.
    min_sqnr: dB, the floor for passes that approximate; their own where it is None. Raises EV2xx
    naming pass and node.
    """
    seen = seen or observe(model, _probes(probes, model))
    record: list[Applied] = []
    originals = originals or Originals(passes)
    for step in passes:
        progress(step.name)
        start = perf_counter()
        originals.show(step, model)
        step.calibration = seen
        if calibration is not None and step.calibrated:
            step.calibration = _calibration(step, model, _probes(calibration, model))
        result = step(model)
        check = None
        if result.changed:
            validate(result.model)
            asked = _probes(probes, result.model)
            floor = step.floor_db if min_sqnr is None else min_sqnr
            check, seen = check_pass(
                step.name, step.effect, model, result.model, seen, asked, floor
            )
        record.append(
            Applied(
                step.name,
                step.effect.value,
                step.options.model_dump(mode="json"),
                result.changed,
                result.notes,
                check,
                perf_counter() - start,
            )
        )
        model = result.model
        gc.collect()  # a graph is full of cycles; its sessions go when it goes
    return model, record, seen


def apply_unchecked(
    model: ExportedModel,
    passes: Sequence[Pass],
    probes: Sequence[ProbeInput] = (),
    originals: Originals | None = None,
) -> ExportedModel:
    """The model behind the passes and nothing proved: for what is compared with one that is.

    probes: what passes that fit numbers to inputs look at. originals: as for `run_passes`.
    """
    originals = originals or Originals(passes)
    for step in passes:
        originals.show(step, model)
        if step.calibrated:
            step.calibration = _calibration(step, model, probes)
        model = step(model).model
    return model


def _calibration(step: Pass, model: ExportedModel, probes: Sequence[ProbeInput]) -> Reference:
    return (shown if step.images_only else observe)(model, probes)


def _probes(probes: Probes, model: ExportedModel) -> Sequence[ProbeInput]:
    """Pictures of the size that the model takes."""
    if callable(probes):
        return probes(model)
    size = (model.contract.image_height, model.contract.image_width)
    if any(probe.pixel_values.shape[2:] != size for probe in probes):
        raise JobFault(
            "EV501",
            f"probes of other than {size[0]} x {size[1]} pixels",
            "a pass changed the size of the pictures, and the probes were made before",
            "hand run_passes what makes the probes; please report this",
        )
    return probes
