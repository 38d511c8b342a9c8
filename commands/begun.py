"""A compile as far as it is the same for every set of classes: the base stage, kept in the cache.

source/       the model as it was opened
model/        behind clean-up and token passes
passes.json   what these passes did, with their checks
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgevlm.commands.derived import with_probes_of
from edgevlm.compiler.exported_model import ExportedModel, load_model, save_model
from edgevlm.compiler.memo import Memo
from edgevlm.compiler.pass_manager import Applied
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes.derive.asked import Derived

__all__ = ["Begun", "load_begun", "save_begun"]

PASSES = "passes.json"


@dataclass(frozen=True)
class Begun:
    """What the first passes made of a model, and what both say on the probes."""

    original: ExportedModel
    model: ExportedModel
    applied: tuple[Applied, ...]
    first: Reference  # of the original
    seen: Reference  # of the model
    looks: Memo = field(default_factory=Memo)  # what it makes of calibration pictures
    said: Memo = field(default_factory=Memo)  # of pictures that are held out, to compare with

    def for_classes(self, asked: Derived | None) -> Begun:
        """With the probes of these classes alone, as a compile for them has."""
        mine = {id(probe) for probe in with_probes_of(self.original, asked).probes}
        which = [i for i, probe in enumerate(self.original.probes) if id(probe) in mine]
        some = tuple(self.original.probes[i] for i in which)
        return replace(
            self,
            original=replace(self.original, probes=some),
            model=replace(self.model, probes=some),
            first=self.first.some(which),
            seen=self.seen.some(which),
        )


def save_begun(
    original: ExportedModel, model: ExportedModel, applied: list[Applied], folder: Path
) -> None:
    """Into an empty folder."""
    for name, each in (("source", original), ("model", model)):
        (folder / name).mkdir()
        save_model(each, folder / name)
    (folder / PASSES).write_text(json.dumps([each.as_json() for each in applied], indent=1) + "\n")


def load_begun(folder: Path) -> Begun:
    """As it was saved; both models are asked the probes again."""
    original, model = (load_model(folder / name) for name in ("source", "model"))
    applied = tuple(Applied.of_json(row) for row in json.loads((folder / PASSES).read_text()))
    first, seen = (observe(each, inputs_of(each)) for each in (original, model))
    return Begun(original, model, applied, first, seen)
