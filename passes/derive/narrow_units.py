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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.executor import Feeds
from edgevlm.compiler.watch import watch
from edgevlm.passes.derive.eliminate import eliminate
from edgevlm.passes.derive.mlps import Mlp, find_mlps
from edgevlm.passes.derive.narrow_heads import Cut
from edgevlm.passes.derive.units import Moments, Refit, levelled, refit

__all__ = ["TooWide", "Units", "narrow_units"]

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


def narrow_units(
    part: ir.Model, signature: Signature, feeds: Sequence[Feeds], macs: int, how: Units
) -> tuple[list[Cut], dict[str, str]]:
    """In place, until the part takes at most `macs` multiplications.

    Returns widths, and why some stay: node -> reason. Raises TooWide before anything is done.
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
    for i, keep, fitted in list(_fits(part, mlps, widths, feeds, how)):
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
) -> Iterator[tuple[int, np.ndarray, Refit]]:
    """(which MLP, units that stay, weights and bias of the product behind them)."""
    for group in _groups([i for i, mlp in enumerate(mlps) if widths[i] < mlp.width], mlps):
        sums = {mlps[i].hidden: Moments(mlps[i].width) for i in group}
        watch(part, list(sums), feeds, lambda v, x, _, s=sums: s[v].see(x))
        for i in group:
            total, (weights, bias) = sums[mlps[i].hidden], mlps[i].weights()
            if how.order == "sum":
                keep = total.largest(widths[i])
            else:
                gram = total.h if bias is not None else total.h[:-1, :-1]
                keep = eliminate(weights, gram).keep(widths[i])
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
