"""One run of narrow-encoder: what pictures make of a part, and the part at this or that width."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.memo import Memo
from edgevlm.passes.derive.eliminate import Order, eliminate
from edgevlm.passes.derive.narrow_heads import Cut, head_widths, narrow_heads
from edgevlm.passes.derive.narrow_units import TooWide, Units, narrow_units
from edgevlm.passes.derive.sums import Seen, arrays_of, see, seen_of, together
from edgevlm.passes.derive.turn_heads import Turned, turn_heads

__all__ = ["ENERGIES", "Afford", "Images", "Narrowing", "images_of", "peak"]

#: to choose from where none is given; 1 leaves heads whole
ENERGIES = (1.0, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95)
FIRST = 0.995  # tried first: most budgets end here or beside it
TRIED = 32  # images at most, to look at while energies are tried; 96 chose the same
SEVERAL = 4  # images of a class: every fourth is held out then

Which = Literal["fit", "held", "all"]  # of the calibration images
#: multiplications that a part may take whose heads are narrowed already
Afford = Callable[[ir.Model], int]


@dataclass(frozen=True)
class Images:
    """Of one class: those that energies are chosen by are held out of what is fitted meanwhile."""

    held: Sequence[Feeds]
    fit: Sequence[Feeds]


def images_of(feeds: Sequence[Feeds], labels: Sequence[str | None]) -> list[Images]:
    """Class by class, in the order in which they come; those with too few go together."""
    classes: dict[str | None, list[Feeds]] = {}
    for feed, label in zip(feeds, labels, strict=True):
        classes.setdefault(label, []).append(feed)
    several = [some for some in classes.values() if len(some) >= SEVERAL]
    few = [feed for some in classes.values() if len(some) < SEVERAL for feed in some]
    return [_split(some) for some in (*several, few) if some]


class Narrowing:
    """What one budget needs again and again is here; what several budgets need, in the memo."""

    def __init__(
        self,
        part: ir.Model,
        signature: Signature,
        images: Sequence[Images],
        how: Units,
        by_inputs: bool,
        memo: Memo,
    ) -> None:
        self.part, self.signature, self.images = part, signature, images
        self.how, self.by_inputs, self.memo = how, by_inputs, memo
        self._sums: dict[Which, Seen] = {}
        self._orders: dict[str, Order] = {}

    def seen(self, which: Which) -> Seen:
        """What images make of the part."""
        if which not in self._sums:
            shares = [each.held if which == "held" else each.fit for each in self.images]
            self._sums[which] = (
                together(self.seen("fit"), self.seen("held"))
                if which == "all" and any(each.fit for each in self.images)
                else reduce(together, map(self._look, [s for s in shares if s] or [[]]))
            )
        return self._sums[which]

    def heads(self, energy: float) -> tuple[ir.Model, list[Cut], dict[str, str]]:
        """A clone with narrower heads, their widths, and why some stay."""
        if energy == 1:
            return self.part.clone(), [], {}
        part, turned = self._turned
        clone = part.clone()
        return clone, *narrow_heads(clone, self.signature, turned, energy, self.how.multiple)

    def narrowed(
        self, afford: Afford, energy: float, which: Which = "all"
    ) -> tuple[ir.Model, list[Cut], list[Cut], dict[str, str]]:
        """Heads and then units of a clone: widths of both, and why some stay. Raises TooWide.

        which: images to fit hidden units to. Their order is that of the trials whatever these
        are: it takes longer than all else, and on all images it is as good (docs/derivation.md).
        """
        seen, tried = self.seen(which), self.seen(self._tried)
        clone, heads, why = self.heads(energy)

        def ordered(name: str, weights: np.ndarray, like: np.ndarray) -> Order:
            if name not in self._orders:
                gram = tried[name].h[: len(like), : len(like)]
                found = self.memo.arrays(
                    f"order {name} {self._tried_on}", lambda: vars(eliminate(weights, gram))
                )
                self._orders[name] = Order(**found)
            return self._orders[name]

        macs = afford(clone)
        units, more = narrow_units(clone, self.signature, seen, macs, self.how, ordered)
        return clone, heads, units, why | more

    def best(self, afford: Afford) -> float:
        """The energy that strays less on held-out images than the next ones do to either side.

        Raises TooWide where none is afforded.
        """
        held = [feed for each in self.images for feed in each.held]
        held = held[:: -(-len(held) // TRIED)]
        wanted = self.memo.kept("wanted", lambda: _outputs(self.part, held))

        tried = self._energies
        first = max(i for i, energy in enumerate(tried) if energy >= FIRST)

        def sqnr_db(i: int) -> float:
            try:
                clone = self.narrowed(afford, tried[i], self._tried)[0]
            except TooWide:
                return -np.inf
            return measure(wanted, _outputs(clone, held), "").sqnr_db

        at = peak(sqnr_db, first, len(tried))
        if at is None:
            self.narrowed(afford, tried[-1], self._tried)  # says how wide it is
        return tried[-1 if at is None else at]

    @property
    def _tried(self) -> Which:
        """Images that trials are fitted to."""
        return "fit" if any(each.fit for each in self.images) else "all"

    @cached_property
    def _tried_on(self) -> str:
        shares = [each.fit if self._tried == "fit" else each.held for each in self.images]
        return _digest([feed for share in shares for feed in share])

    @cached_property
    def _energies(self) -> list[float]:
        """Of those that make the same heads the largest; with 1 they stay as they are."""
        found: dict[tuple[int, ...], float] = {}
        for energy in ENERGIES[1:]:
            widths = head_widths(self._turned[1], energy, self.how.multiple)
            found.setdefault(tuple(widths), energy)
        return [ENERGIES[0], *found.values()]

    @cached_property
    def _turned(self) -> tuple[ir.Model, list[Turned]]:
        """A clone with all channels turned, and what they carry."""
        seen = self.seen("all") if self.by_inputs else {}  # whose seconds are a stage of their own

        def turn() -> tuple[ir.Model, list[Turned]]:
            clone = self.part.clone()
            return clone, turn_heads(clone, {name: total.h for name, total in seen.items()})

        return self.memo.kept(f"turned {self.by_inputs}", turn, lambda made: _bytes(made[0]))

    def _look(self, some: Sequence[Feeds]) -> Seen:
        """Of another set of classes with these very images it may be known already."""
        return seen_of(
            self.memo.wider.arrays(
                f"sums {_digest(some)}", lambda: arrays_of(see(self.part, self.signature, some))
            )
        )


def peak(height: Callable[[int], float], first: int, count: int) -> int | None:
    """Of 0 to count - 1 one that is not lower than those beside it, uphill from `first`.

    Where that is -inf, from the next one behind it that is not; None where there is none.
    """

    @cache
    def known(i: int) -> float:
        return height(i) if 0 <= i < count else -np.inf

    at = next((i for i in range(first, count) if known(i) > -np.inf), None)
    for step in (1, -1):
        while at is not None and known(at + step) > known(at):
            at += step
    return at


def _split(some: Sequence[Feeds]) -> Images:
    return Images(some[::SEVERAL], [feed for i, feed in enumerate(some) if i % SEVERAL])


def _digest(some: Sequence[Feeds]) -> str:
    total = hashlib.sha256()
    for feed in some:
        for name, array in sorted(feed.items()):
            total.update(f"{name} {array.dtype} {array.shape} ".encode())
            total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def _outputs(part: ir.Model, feeds: Sequence[Feeds]) -> np.ndarray:
    session = open_session(part)
    return np.stack([session.run(None, dict(feed))[0] for feed in feeds])


def _bytes(part: ir.Model) -> int:
    """Of its weights, those included that it shares with others."""
    return sum(v.const_value.nbytes for v in part.graph.initializers.values() if v.const_value)
