"""A vision part at other widths, to be timed: its shapes are right, its numbers do not matter.

    head_levels   heads with all, 3/4, 1/2, 1/4 of their channels
    unit_levels   of each: all, 3/4, 1/2, 1/4, 1/8 of its hidden units, and as few as ever stay
    with_units    as many as a number of multiplications allows

What can be cut, and how widths are rounded, is told by what `narrow-encoder` uses itself, so that
no shape is timed that it would not make. Nothing is fitted and nothing is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes import Signature, analyse
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.derive.mlps import find_mlps
from edgevlm.passes.derive.narrow_heads import narrow_heads
from edgevlm.passes.derive.narrow_units import TooWide, widths_for
from edgevlm.passes.derive.turn_heads import turn_heads

__all__ = ["head_levels", "spent", "unit_levels", "with_units"]

HEADS = (3 / 4, 1 / 2, 1 / 4)
UNITS = (3 / 4, 1 / 2, 1 / 4, 1 / 8, 0.0)


def spent(part: ir.Model, signature: Signature) -> tuple[int, int]:
    """Multiplications of all but hidden units, and of these."""
    units = sum(mlp.width * mlp.macs_a_unit for mlp in find_mlps(analyse(part.graph, signature)))
    return count(part).macs - units, units


def head_levels(part: ir.Model, signature: Signature, multiple: int) -> list[ir.Model]:
    """The part itself first, then ever narrower heads; each is another one."""
    found = [part]
    for share in HEADS:
        clone = part.clone()
        narrow_heads(clone, signature, turn_heads(clone), 1.0, multiple, share)
        if count(clone).macs < count(found[-1]).macs:
            found.append(clone)
    return found


def unit_levels(part: ir.Model, signature: Signature, multiple: int) -> Iterator[ir.Model]:
    """The part itself first, then ever fewer hidden units."""
    yield part
    rest, units = spent(part, signature)
    last = rest + units
    for share in UNITS:
        clone = _cut(part, signature, rest + int(share * units), multiple)
        if count(clone).macs < last:
            last = count(clone).macs
            yield clone


def with_units(part: ir.Model, signature: Signature, macs: int, multiple: int) -> ir.Model:
    """Of the shapes that `narrow_units` gives it. Raises TooWide."""
    clone = _cut(part, signature, macs, multiple)
    least = count(clone).macs
    if least > macs:
        raise TooWide(least)
    return clone


def _cut(part: ir.Model, signature: Signature, macs: int, multiple: int) -> ir.Model:
    clone = part.clone()
    axes, build = analyse(clone.graph, signature), GraphBuilder(clone, "cut")
    mlps = find_mlps(axes)
    widths, _ = widths_for(mlps, count(clone).macs, macs, multiple)
    for mlp, width in zip(mlps, widths, strict=True):
        if width == mlp.width:
            continue
        weights, bias = mlp.weights()
        try:
            mlp.narrow(build, axes, np.arange(width), (weights[:, :width], bias))
        except JobFault:  # it stays in `narrow-encoder` as well, which says why
            continue
    return clone
