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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.derive.eliminate import Order, eliminate
from edgevlm.passes.derive.mlps import Mlp, find_mlps
from edgevlm.passes.derive.narrow_heads import Cut
from edgevlm.passes.derive.sums import Seen
from edgevlm.passes.derive.units import Moments, Refit, levelled, refit

__all__ = ["TooWide", "Units", "narrow_units", "widths_for"]

#: (name of hidden units, weights behind them, their Gram matrix) -> their order
Ordered = Callable[[str, np.ndarray, np.ndarray], Order]


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
    part: ir.Model,
    signature: Signature,
    seen: Seen,
    macs: int,
    how: Units,
    ordered: Ordered = lambda _, weights, gram: eliminate(weights, gram),
) -> tuple[list[Cut], dict[str, str]]:
    """In place, until the part takes at most `macs` multiplications.

    seen: of this part, or of what it is a clone of with narrower heads. ordered: of the name of
    hidden units, for who has their order already. Returns widths, and why some stay: node ->
    reason. Raises TooWide before anything is done.
    """
    axes = analyse(part.graph, signature)
    mlps = find_mlps(axes)
    before = [mlp.width for mlp in mlps]
    widths, least = widths_for(mlps, count(part).macs, macs, how.multiple)
    if least > macs:
        raise TooWide(least)
    build, left = GraphBuilder(part, "narrow"), {}
    for mlp, width in zip(mlps, widths, strict=True):
        if width == mlp.width:
            continue
        try:
            mlp.narrow(build, axes, *_fitted(mlp, width, seen[str(mlp.hidden.name)], how, ordered))
        except JobFault as fault:
            left[str(mlp.down.name)] = fault.why
    return [(old, mlp.width) for old, mlp in zip(before, mlps, strict=True)], left


def widths_for(mlps: Sequence[Mlp], have: int, macs: int, multiple: int) -> tuple[list[int], int]:
    """Of the MLPs of a part that takes `have` multiplications, to make it `macs`; what it takes."""
    before, prices = [mlp.width for mlp in mlps], [mlp.macs_a_unit for mlp in mlps]
    widths = levelled(before, prices, have - macs, multiple)
    saved = sum((w - f) * p for w, f, p in zip(before, widths, prices, strict=True))
    return widths, have - saved


def _fitted(
    mlp: Mlp, width: int, total: Moments, how: Units, ordered: Ordered
) -> tuple[np.ndarray, Refit]:
    """Units that stay, and weights and bias of the product behind them."""
    weights, bias = mlp.weights()
    if how.order == "sum":
        keep = total.largest(width)
    else:
        gram = total.h if bias is not None else total.h[:-1, :-1]
        keep = ordered(str(mlp.hidden.name), weights, gram).keep(width)
    return keep, refit(weights, bias, total, keep) if how.refit else (weights[:, keep], bias)
