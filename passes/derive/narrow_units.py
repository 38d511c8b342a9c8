"""MLPs of an encoder with fewer hidden units, the others doing their work (2504.03118).

    before: x -> W_up [d,e] -> GELU -> hidden [...,e] -> W_down [e,d]
    after:  x -> W_up [d,r] -> GELU -> hidden [...,r] -> W_down' [r,d], bias'

All blocks are cut to one level (`units.levelled`), rounded down to `multiple`. Which units stay is
told by what least squares can not make up for (eliminate.py; order = "loss"), or, as NuWa has it,
by the size of their summed activations ("sum"); what stays is then fitted to what was there
(`units.refit`). Both look at calibration images, all tokens: images of the classes that a device
will see make a model for those. Ours: the bias takes part in the fit. The axis analysis does the
cutting, so gated MLPs (SwiGLU) are cut as plain ones are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.memo import Memo
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.eliminate import Order, eliminate
from edgevlm.passes.derive.mlps import Mlp, find_mlps
from edgevlm.passes.derive.narrow_heads import Cut
from edgevlm.passes.derive.units import Moments, Refit, levelled, refit

__all__ = ["Looked", "TooWide", "Units", "narrow_units"]

HELD_BYTES = 1 << 30  # of the moments of MLPs that are watched together


class TooWide(Exception):
    """MLPs alone do not reach a budget: with `multiple` units each the part takes `least`."""

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least = least


@dataclass(frozen=True)
class Units:
    """How they are chosen."""

    order: Literal["loss", "sum"] = "loss"
    refit: bool = True
    multiple: int = 8


@dataclass(frozen=True)
class Looked:
    """Sums over pictures and orders of units: the same whatever the budget, and so kept."""

    memo: Memo
    key: str  # of the part and the feeds

    def sums(
        self, part: ir.Model, mlps: Mapping[int, Mlp], feeds: Sequence[Feeds]
    ) -> dict[int, Moments]:
        """Number of an MLP -> moments of its hidden units; one look at the pictures for all."""
        names = ",".join(map(str, mlps))

        def look() -> dict[int, Moments]:
            found = {i: Moments(mlp.width) for i, mlp in mlps.items()}
            of = {mlp.hidden: found[i] for i, mlp in mlps.items()}
            watch(part, list(of), feeds, lambda v, x, _: of[v].see(x))
            return found

        return self.memo.kept(
            f"sums {self.key} {names}", look, lambda sums: sum(s.h.nbytes for s in sums.values())
        )

    def order(self, number: int, weights: np.ndarray, gram: np.ndarray) -> Order:
        return self.memo.kept(f"order {self.key} {number}", lambda: eliminate(weights, gram))


def narrow_units(
    part: ir.Model,
    signature: Signature,
    feeds: Sequence[Feeds],
    macs: int,
    how: Units,
    looked: Looked | None = None,
) -> tuple[list[Cut], dict[str, str]]:
    """In place, until the part takes at most `macs` multiplications.

    looked: what other budgets found in the same part with the same feeds. Returns widths, and why
    some stay: node -> reason. Raises TooWide before anything is done.
    """
    axes = analyse(part.graph, signature)
    mlps = find_mlps(axes)
    before = [mlp.width for mlp in mlps]
    prices, over = [mlp.macs_a_unit for mlp in mlps], count(part).macs - macs
    widths = levelled(before, prices, over, how.multiple)
    saved = sum((w - f) * p for w, f, p in zip(before, widths, prices, strict=True))
    if saved < over:
        raise TooWide(macs + over - saved)
    build, left = GraphBuilder(part, "narrow"), {}
    for i, keep, fitted in list(_fits(part, mlps, widths, feeds, how, looked)):
        try:
            mlps[i].narrow(build, axes, keep, fitted)
        except JobFault as fault:
            left[str(mlps[i].down.name)] = fault.why
    return [(old, mlp.width) for old, mlp in zip(before, mlps, strict=True)], left


def _fits(
    part: ir.Model,
    mlps: Sequence[Mlp],
    widths: Sequence[int],
    feeds: Sequence[Feeds],
    how: Units,
    looked: Looked | None,
) -> Iterator[tuple[int, np.ndarray, Refit]]:
    """(which MLP, units that stay, weights and bias of the product behind them)."""
    looked = looked or Looked(Memo(), "")
    for group in _groups([i for i, mlp in enumerate(mlps) if widths[i] < mlp.width], mlps):
        sums = looked.sums(part, {i: mlps[i] for i in group}, feeds)
        for i in group:
            total, (weights, bias) = sums[i], mlps[i].weights()
            if how.order == "sum":
                keep = total.largest(widths[i])
            else:
                gram = total.h if bias is not None else total.h[:-1, :-1]
                keep = looked.order(i, weights, gram).keep(widths[i])
            fitted = weights[:, keep], bias
            yield i, keep, refit(weights, bias, total, keep) if how.refit else fitted


def _groups(numbers: Sequence[int], mlps: Sequence[Mlp]) -> list[list[int]]:
    """As many MLPs together as their moments may take."""
    groups: list[list[int]] = [[]]
    held = 0
    for i in numbers:
        size = 8 * (mlps[i].width + 1) ** 2
        if groups[-1] and held + size > HELD_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += size
    return [group for group in groups if group]
