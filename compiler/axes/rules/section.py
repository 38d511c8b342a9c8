"""Ops that cut a dimension: it becomes a sum, what they return is one of the summands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import Term, fail, fresh_term, pin, size_of
from edgevlm.compiler.axes.equations import section
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    normal_axis,
    sizes,
    who,
)

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES", "equal_parts"]


def split(found: Analysis, node: ir.Node) -> list[Dims]:
    x, name = found.input(node, 0), who(node)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    given = constant(node, 1)
    if given is None:
        lengths = equal_parts(size_of(x[axis]), len(node.outputs))
    else:
        lengths = given.tolist()
    starts = np.cumsum([0, *lengths])[:-1].tolist()
    parts = [section(x[axis], s, n, name) for s, n in zip(starts, lengths, strict=True)]
    found.derive(node, 1, lambda: sizes(parts))
    return [[*x[:axis], part, *x[axis + 1 :]] for part in parts]


def equal_parts(total: int, count: int) -> list[int]:
    """What Split makes of `num_outputs`: parts of one length, the last may be shorter."""
    whole = -(-total // count)
    return [whole] * (count - 1) + [total - whole * (count - 1)]


def slice_op(found: Analysis, node: ir.Node) -> list[Dims]:
    """Steps of 1 make the axis a sum; other steps make a new axis and pin the old one."""
    x, name = list(found.input(node, 0)), who(node)
    starts, ends = constant(node, 1), constant(node, 2)
    axes, steps = constant(node, 3), constant(node, 4)
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    bounds: list[tuple[Term | int, Term]] = []  # what lies before, what is taken
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = normal_axis(int(axis), len(x))
        whole = x[axis]
        begin, stop, stride = slice(int(start), int(end), int(step)).indices(size_of(whole))
        length = len(range(begin, stop, stride))
        if not length:
            raise fail(name, f"Slice {begin}:{stop}:{stride} of {size_of(whole)} leaves nothing")
        if stride == 1:
            x[axis] = section(whole, begin, length, name)
            bounds.append((section(whole, 0, begin, name) if begin else 0, x[axis]))
            continue
        pin(whole, name, f"it takes every {stride}th element of it")
        x[axis] = fresh_term(length, name)
        pin(x[axis], name, f"it is every {stride}th element of another axis")
        bounds.append((int(start), int(end)))

    def begins() -> np.ndarray:
        return np.array([b if isinstance(b, int) else size_of(b) for b, _ in bounds], np.int64)

    def stops() -> np.ndarray:
        taken = [
            n if isinstance(n, int) else b + size_of(n)
            for b, (_, n) in zip(begins(), bounds, strict=True)
        ]
        return np.array(taken, np.int64)

    found.derive(node, 1, begins)
    found.derive(node, 2, stops)
    return [x]


RULES: dict[str, Rule] = {"Split": split, "Slice": slice_op}
