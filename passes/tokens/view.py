"""What a method may look at, at one site: the tokens, and taps that exist there.

All values are without batch: tokens float32 [N,D], scores [N], keys [heads,N,head_dim]. A tap that
a site does not have is refused with the reason and the sites that have it, never replaced in
silence; where a published proxy stands in, the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.passes.tokens.forms import Form
from edgevlm.passes.tokens.sites import Site

__all__ = ["Attending", "Choice", "Text", "View"]


@dataclass(frozen=True)
class Attending:
    """One attention: all rows of its part, the image's among them."""

    q: ir.Value  # float32 [heads,L,head_dim]
    k: ir.Value  # float32 [heads,L,head_dim]; shared key heads are repeated
    v: ir.Value  # float32 [heads,L,head_dim]
    scale: float
    heads: int
    head_dim: int
    rows: int  # L, of k and v
    queries: int  # of q: L, or 1 where the last layer computes one row only
    causal: bool
    mask: ir.Value | None = None  # of the node: added to the logits, or (bool) what is seen


@dataclass(frozen=True)
class Text:
    """The words behind the image, of any length up to the prompt capacity T."""

    rows: ir.Value  # [T,...] of whatever was asked for; rows behind the last word are idle
    mask: ir.Value  # float32 [T], 1 for a word
    count: int  # T


@dataclass(frozen=True)
class Choice:
    """What a method decided at one site."""

    index: ir.Value  # int64 [K], ascending and unique
    content: ir.Value | None = None  # float32 [K,D] in place of the kept tokens, where merged
    sizes: ir.Value | None = None  # float32 [K]: how many tokens each stands for
    owner: ir.Value | None = None  # int64 [N]: the slot of the K that each token went into


@dataclass
class View:
    """One site as a method sees it; vision_view, connector_view and prompt_view say how."""

    build: GraphBuilder
    site: Site
    model: ExportedModel
    form: Form
    method: str
    keep: int  # K
    count: int  # N tokens here
    tokens: ir.Value  # float32 [N,D]
    width: int  # D
    places: ir.Value | None = None  # int64 [N] in the whole grid; None where all are still here
    notes: list[str] = field(default_factory=list)

    # -- shorthand -----------------------------------------------------------------------------
    def const(self, array: object, dtype: type = np.float32) -> ir.Value:
        """A float32 constant unless said otherwise."""
        return self.build.const(array, dtype)

    def note(self, text: str) -> None:
        """Something a reader of the record should know, such as a proxy."""
        if text not in self.notes:
            self.notes.append(text)

    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the whole grid; refused where its tokens are no longer all here."""
        rows, columns = self.model.contract.grid
        if self.places is not None or rows * columns != self.count:
            raise self.missing(
                "the whole grid", "tokens have left before; it is whole at the first site"
            )
        return rows, columns

    def coordinates(self) -> ir.Value:
        """float32 [N,2]: row and column of each token in the grid, also where some have left."""
        rows, columns = self.model.contract.grid
        if self.places is None and rows * columns != self.count:
            raise self.missing(
                "places in the grid", "tokens have left in another part, which does not say which"
            )
        lattice = np.stack(np.divmod(np.arange(rows * columns), columns), -1)
        table = self.const(lattice)
        return table if self.places is None else self.build("Gather", table, self.places, axis=0)

    # -- taps: a site overrides those it has -----------------------------------------------------
    def hidden(self, back: int = 0) -> ir.Value:
        """[N,D] of the residual stream `back` blocks earlier."""
        raise self.missing("a residual stream", "it is in vision:B, vision-out and llm:L")

    def attention(self, back: int = 1) -> Attending:
        """The attention `back` blocks before the site; 0 is the next, computed on all N tokens."""
        raise self.missing("an attention", "it is in vision:B, vision-out and llm:L")

    def image_rows(self, value: ir.Value, axis: int = 0) -> ir.Value:
        """The image's N rows of a value that has all L rows of the site's part along `axis`."""
        raise self.missing("rows of a part", "they are in vision:B, vision-out and llm:L")

    def class_attention(self) -> ir.Value:
        """[N] attention the class token pays each patch, mean over heads, in the last block."""
        raise self.missing(
            "the class token's attention", "it is in vision:B and vision-out of the encoder"
        )

    def sizes(self) -> ir.Value:
        """float32 [N]: how many tokens each stands for; ones where none were merged before."""
        raise self.missing("sizes of merged tokens", "they are in vision:B and vision-out")

    def pixels(self) -> ir.Value:
        """[N,3*h*w]: the pixels under each token."""
        raise self.missing("pixels", "they are in vision:B and vision-out")

    def modules(self, back: int = 1) -> list[tuple[ir.Value, ir.Value]]:
        """(what it reads, what it adds) of attention and MLP, `back` blocks earlier, each [N,D]."""
        raise self.missing(
            "attention and MLP modules", "they are in vision:B, vision-out and llm:L"
        )

    def text(self, value: ir.Value | None = None, axis: int = 0) -> Text:
        """The words behind the image, of a value with all L rows; the stream itself by default."""
        raise self.missing("text", "it is in llm:L (llm:0 is connector-out with the text in view)")

    def paid(self, seen: Attending, queries: ir.Value | list[int]) -> ir.Value:
        """[heads,Q,N] attention that some rows of the part pay the image tokens."""
        raise self.missing("an attention", "it is in vision:B, vision-out and llm:L")

    def text_rows(self) -> Text:
        """Row numbers (int64 [T]) of the words behind the image, and which of them are words."""
        raise self.missing("text", "it is in llm:L (llm:0 is connector-out with the text in view)")

    def last_index(self) -> ir.Value:
        """Row number int64 [1] of the prompt's last word."""
        raise self.missing("text", "it is in llm:L (llm:0 is connector-out with the text in view)")

    def projector(self) -> object:
        """The connector's weights."""
        raise self.missing("the projector's weights", "they are in connector-out")

    def missing(self, what: str, where: str) -> UsageFault:
        return UsageFault(
            "EV230",
            f"method {self.method} at {self.site} needs {what}",
            f"there is none there; {where}",
            f"edgevlm passes show {self.method}",
        )
