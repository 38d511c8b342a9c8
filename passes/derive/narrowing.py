"""One run of narrow-encoder: what pictures make of a part, and the part at this or that width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature
from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.memo import Memo
from edgevlm.passes.derive.eliminate import Order, eliminate
from edgevlm.passes.derive.narrow_heads import Cut, narrow_heads
from edgevlm.passes.derive.narrow_units import TooWide, Units, narrow_units
from edgevlm.passes.derive.sums import Seen, see, together

__all__ = ["ENERGIES", "Afford", "Narrowing", "Which"]

#: tried where none is given; 1 leaves heads whole
ENERGIES = (1.0, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.95)
TRIED = 96  # images at most, to look at while energies are tried
SEVERAL = 4  # images: every fourth is held out then

Which = Literal["fit", "held", "all"]  # of the calibration images
#: multiplications that a part may take whose heads are narrowed already
Afford = Callable[[ir.Model], int]


class Narrowing:
    """What one budget needs again and again is here; what several budgets need, in the memo."""

    def __init__(
        self,
        part: ir.Model,
        signature: Signature,
        feeds: Sequence[Feeds],
        how: Units,
        by_inputs: bool,
        memo: Memo,
    ) -> None:
        self.part, self.signature, self.feeds = part, signature, feeds
        self.how, self.by_inputs, self.memo = how, by_inputs, memo
        self._sums: dict[Which, Seen] = {}
        self._orders: dict[str, Order] = {}

    def seen(self, which: Which) -> Seen:
        """What images make of the part: every fourth of them, the others, or all."""
        if which not in self._sums:
            self._sums[which] = (
                together(self.seen("fit"), self.seen("held"))
                if which == "all"
                else self.memo.kept(f"sums {which}", lambda: self._look(which), _bytes_of_sums)
            )
        return self._sums[which]

    def heads(self, energy: float) -> tuple[ir.Model, list[Cut], dict[str, str]]:
        """A clone with narrower heads, their widths, and why some stay."""
        clone = self.part.clone()
        if energy == 1:
            return clone, [], {}
        seen = self.seen("all") if self.by_inputs else {}
        return clone, *narrow_heads(clone, self.signature, seen, energy, self.how.multiple)

    def narrowed(
        self, afford: Afford, energy: float, which: Which = "all"
    ) -> tuple[ir.Model, list[Cut], list[Cut], dict[str, str]]:
        """Heads and then units of a clone: widths of both, and why some stay. Raises TooWide."""
        made, heads, why = self.memo.kept(
            f"heads {energy} {self.by_inputs} {self.how.multiple}",
            lambda: self.heads(energy),
            lambda found: _bytes(found[0]),
        )
        clone = made.clone()

        def ordered(name: str, weights: np.ndarray, gram: np.ndarray) -> Order:
            key = f"order {which} {name}"
            if key not in self._orders:
                self._orders[key] = self.memo.kept(key, lambda: eliminate(weights, gram))
            return self._orders[key]

        seen = self.seen(which)
        macs = afford(clone)
        units, more = narrow_units(clone, self.signature, seen, macs, self.how, ordered)
        return clone, heads, units, why | more

    def best(self, afford: Afford) -> float:
        """The energy that strays least on held-out images, walking down until it gets worse.

        Raises TooWide where none is afforded.
        """
        held = self.feeds[::SEVERAL]
        held = held[:: -(-len(held) // TRIED)]
        wanted = self.memo.kept("wanted", lambda: _outputs(self.part, held))
        which: Which = "fit" if len(self.feeds) > 1 else "all"
        best, found = -np.inf, 0.0
        for energy in ENERGIES:
            try:
                clone = self.narrowed(afford, energy, which)[0]
            except TooWide:
                if not found and energy == ENERGIES[-1]:
                    raise
                continue
            db = measure(wanted, _outputs(clone, held), "").sqnr_db
            if db < best:
                break
            best, found = db, energy
        return found

    def _look(self, which: Which) -> Seen:
        some = [f for i, f in enumerate(self.feeds) if (i % SEVERAL == 0) == (which == "held")]
        return see(self.part, self.signature, some)


def _outputs(part: ir.Model, feeds: Sequence[Feeds]) -> np.ndarray:
    session = open_session(part)
    return np.stack([session.run(None, dict(feed))[0] for feed in feeds])


def _bytes(part: ir.Model) -> int:
    """Of its weights, those included that it shares with others."""
    return sum(v.const_value.nbytes for v in part.graph.initializers.values() if v.const_value)


def _bytes_of_sums(seen: Seen) -> int:
    return sum(total.h.nbytes for total in seen.values())
