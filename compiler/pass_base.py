"""The contract of a pass: exported model -> exported model, with options, conditions and notes.

    class DropDead(Pass):
        name, summary, effect = "drop-dead", "remove what no output needs", Effect.EXACT
        class Options(PassOptions): ...
        def run(self, model): return PassResult(model.with_parts(...), changed=True, notes=(...))

`requires` is checked before and `ensures` after; both raise EV2xx faults that name node and value.
A pass never edits the model it is given: it clones the parts it changes.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel

__all__ = ["Effect", "Note", "Pass", "PassOptions", "PassResult"]


class Effect(enum.Enum):
    """What a pass may do to the function, and so how it is judged."""

    EXACT = "exact"  # the same function: drift must stay at rounding level
    APPROXIMATE = "approximate"  # the same function, coarser: drift is measured and bounded
    STRUCTURAL = "structural"  # another function on purpose: invariants and answers judge it


class PassOptions(BaseModel):
    """Base of all options: frozen, strict about names; fields carry unit and range."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Note:
    """One thing a pass did or did not do, with the reason."""

    kind: str  # "matched", "skipped" or "info"
    where: str  # part and node
    why: str


@dataclass(frozen=True)
class PassResult:
    model: ExportedModel
    changed: bool
    notes: tuple[Note, ...] = ()


class Pass(ABC):
    """One idea, one file."""

    name: ClassVar[str]  # verb-noun, kebab-case
    summary: ClassVar[str]  # one line
    effect: ClassVar[Effect]
    paper: ClassVar[str | None] = None  # arXiv id
    after: ClassVar[tuple[str, ...]] = ()  # passes that must come earlier if both are in a recipe
    Options: ClassVar[type[PassOptions]] = PassOptions

    def __init__(self, **options: object) -> None:
        try:
            self.options = self.Options(**options)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "options"
            raise UsageFault(
                "EV202",
                f"option {field!r} of pass {self.name}",
                f"{first['msg']} (given: {first.get('input')!r})",
                f"edgevlm passes show {self.name}",
            ) from error

    def requires(self, model: ExportedModel) -> None:  # noqa: B027  (a pass may need nothing)
        """Raise if the model is not fit for this pass."""

    @abstractmethod
    def run(self, model: ExportedModel) -> PassResult:
        """Do it. Parts that change are clones."""

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:  # noqa: B027
        """Raise if the promise of the pass does not hold."""

    def __call__(self, model: ExportedModel) -> PassResult:
        self.requires(model)
        result = self.run(model)
        same = all(result.model.parts[r] is model.parts.get(r) for r in result.model.parts)
        if result.changed and same and result.model.contract == model.contract:
            raise JobFault(
                "EV501",
                f"pass {self.name} edited its input in place",
                "it says 'changed' and returns the very graphs it was given",
                "clone the part before editing it (CONTRIBUTING.md, 'add a pass')",
            )
        if result.changed:
            self.ensures(model, result.model)
        return result
