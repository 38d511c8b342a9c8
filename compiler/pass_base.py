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
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.memo import Memo

if TYPE_CHECKING:
    from edgevlm.compiler.reference import Reference

__all__ = ["Effect", "Note", "Pass", "PassOptions", "PassResult"]


class Effect(enum.Enum):
    """What a pass may do to the function, and so how it is judged."""

    EXACT = "exact"  # the same function: drift must stay at rounding level
    APPROXIMATE = "approximate"  # the same function, coarser: drift is measured and bounded
    STRUCTURAL = "structural"  # another function on purpose: invariants and answers judge it


class PassOptions(BaseModel):
    """Base of all options: frozen, strict about names and types; fields carry unit and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)  # keep = true is not 1


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
    #: dB below which an approximating pass is taken for broken, where the user names no other
    floor_db: float = 15.0
    calibrated: bool = False  # it fits numbers to inputs, and wants those of --calib
    images_only: bool = False  # of these it wants what the vision part is fed, and no more
    #: what the model in hand does on the probes, or on those; set before `run`, None: unobserved
    calibration: Reference | None = None
    #: the first of these passes that a recipe has in front shows it what it was given: `original`
    since: ClassVar[tuple[str, ...]] = ()
    #: that model, for a pass that goes by what was there before others; set before `run`
    original: ExportedModel | None = None
    #: what runs on the same model with the same calibration have in common; shared where set
    memo: Memo

    def __init__(self, /, **options: object) -> None:
        self.memo = Memo(limit=0)
        try:
            self.options = self.Options(**options)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            why = first["msg"].removeprefix("Value error, ")
            raise UsageFault(
                "EV202",
                f"option {field!r} of pass {self.name}" if field else f"options of {self.name}",
                f"{why} (given: {first.get('input')!r})",
                f"edgevlm passes show {self.name}",
            ) from error

    @property
    def observed(self) -> Reference:
        """`calibration`, for a pass that cannot do without. Raises EV501 where nobody observed."""
        if self.calibration is None:
            raise JobFault(
                "EV501",
                f"{self.name} without calibration inputs",
                "nobody ran the model on its probes before",
                "please report this",
            )
        return self.calibration

    def requires(self, model: ExportedModel) -> None:  # noqa: B027  (a pass may need nothing)
        """Raise if the model is not fit for this pass."""

    @abstractmethod
    def run(self, model: ExportedModel) -> PassResult:
        """Do it. Parts that change are clones."""

    def ensures(self, before: ExportedModel, after: ExportedModel) -> None:  # noqa: B027
        """Raise if the promise of the pass does not hold."""

    def __call__(self, model: ExportedModel) -> PassResult:
        self.requires(model)
        was = _fingerprint(model)
        result = self.run(model)
        if not _same(was, _fingerprint(model)):
            raise self._bug("edited its input in place", "its graphs are not as they were")
        kept = all(result.model.parts[r] is model.parts.get(r) for r in result.model.parts)
        kept = kept and result.model.contract == model.contract
        if result.changed and kept:
            raise self._bug("says 'changed'", "it returns the very graphs it was given")
        if not result.changed and not kept:
            raise self._bug("says 'not changed'", "it returns other graphs than it was given")
        if result.changed:
            self.ensures(model, result.model)
        return result

    def _bug(self, what: str, why: str) -> JobFault:
        fix = "clone the part before editing it (CONTRIBUTING.md, 'add a pass')"
        return JobFault("EV501", f"pass {self.name} {what}", why, fix)


def _fingerprint(model: ExportedModel) -> list[object]:
    """Everything a pass could edit in a graph, short of the numbers inside a tensor."""
    marks: list[object] = []
    for part in model.parts.values():
        graph = part.graph
        values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
        marks += [*graph.inputs, "outputs", *graph.outputs, str(part.opset_imports)]
        for node in graph:
            marks += [node, str(node.name), node.op_type, *node.inputs, "outputs", *node.outputs]
            marks += [node.overload, *node.attributes, *node.attributes.values()]
            values += node.outputs
        for value in values:
            marks += [str(value.name), value.const_value, value.type, str(value.shape)]
    return marks


def _same(a: list[object], b: list[object]) -> bool:
    """Objects by identity (held, so that no address is used again), names and shapes by value."""
    return len(a) == len(b) and all(
        x is y or (type(x) is type(y) is str and x == y) for x, y in zip(a, b, strict=True)
    )
