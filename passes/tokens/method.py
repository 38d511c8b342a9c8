"""What a published method is made of. A method is a short file that names its pieces.

    taps (view.py) -> Scorer x Kernel -> Selector -> Merger -> Positioner (-> Restore)

`pieces` says which; `choose` puts them together. A method that does not factor so overrides
`choose`. Whatever happens, exactly K ascending, unique places come out and nothing in the graph is
random: noise is a constant.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, ValidationError

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import Choice, View

if TYPE_CHECKING:
    from edgevlm.compiler.reference import Reference

__all__ = ["Choice", "Method", "MethodOptions", "Pieces"]

Scorer = Callable[[View], ir.Value]  # -> float32 [N], higher stays
Kernel = Callable[[View], ir.Value]  # -> float32 [N,N]
Selector = Callable[[View, ir.Value | None, ir.Value | None], ir.Value]  # score, kernel -> [K]
Merger = Callable[[View, ir.Value, ir.Value | None], ir.Value]  # index, kernel -> [K,D]


class MethodOptions(BaseModel):
    """Base of a method's options: frozen and strict; fields carry unit, range and source."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Pieces:
    """The factors of a method; None where it has none."""

    select: Selector
    score: Scorer | None = None
    kernel: Kernel | None = None
    merge: Merger | None = None


class Method(ABC):
    """One published method. The file's docstring is its card."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line
    paper: ClassVar[str | None] = None  # arXiv id
    evidence: ClassVar[str] = "C"  # C: code read; N: from a note of the paper; R: reconstructed
    lowering: ClassVar[Literal["A", "B", "C", "D", "E"]] = "A"  # docs/tokens.md says what they mean
    sites: ClassVar[tuple[str, ...]]  # kinds at which it works, its own first
    text_aware: ClassVar[bool] = False  # then an image's tokens cannot be reused for another prompt
    permutation: ClassVar[Literal["equivariant", "grid", "order"]] = "equivariant"
    greedy: ClassVar[bool] = False  # a chain of dependent arg-max steps, one a token
    stand_in: ClassVar[str | None] = None  # nearest method for a target that cannot run this one
    stream: ClassVar[Literal["block", "middle"]] = "block"  # of a vision:B site
    restore: ClassVar[Literal["none", "skip-scatter"]] = "none"  # llm sites: one layer, then back
    as_pass: ClassVar[str | None] = None  # it chooses no tokens but is this pass of its own
    budgeted: ClassVar[bool] = True  # whether --tokens means anything to it
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    calibrated: ClassVar[bool] = False  # it looks at what the model does on its probes
    calibration: Reference | None = None  # and that is this; the pass hands it on

    def __init__(self, /, **options: object) -> None:
        try:
            self.options = self.Options(**options)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "options"
            known = ", ".join(self.Options.model_fields) or "none"
            raise UsageFault(
                "EV202",
                f"option {field!r} of method {self.name}",
                f"{first['msg']} (given: {first.get('input')!r}); its options: {known}",
                f"edgevlm passes show {self.name}",
            ) from error

    def default_sites(self, layers: int, blocks: int | None) -> list[Site]:
        """Where the paper puts it, for a model of so many decoder layers and vision blocks."""
        return [Site.at(self.sites[0], 2 if self.sites[0] == "llm" else 0)]

    def budgets(self, count: int, keep: int, sites: list[Site]) -> list[int]:
        """Tokens behind each site where one number was asked for; they fall by equal factors."""
        steps = len(sites)
        ratio = (keep / count) ** (1 / steps)
        return [max(keep, round(count * ratio**i)) for i in range(1, steps)] + [keep]

    def least(self, site: Site) -> int:
        """The smallest budget it is defined for."""
        return 1

    def pieces(self, view: View) -> Pieces:
        """The factors, for this site."""
        raise NotImplementedError

    def choose(self, view: View) -> Choice:
        """K of the N tokens in view."""
        pieces = self.pieces(view)
        score = None if pieces.score is None else pieces.score(view)
        kernel = None if pieces.kernel is None else pieces.kernel(view)
        index = pieces.select(view, score, kernel)
        return Choice(index, pieces.merge and pieces.merge(view, index, kernel))
