"""Ops that only move elements: axes are factored, permuted, joined and cut, never invented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.axis import (
    Axis,
    Term,
    concatenate,
    expand,
    factor,
    fail,
    section,
    size_of,
)
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    inputs,
    meet,
    normal_axis,
    sizes,
)

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES", "regroup"]


def regroup(source: Dims, target: list[int], node: ir.Node) -> Dims:
    """Row-major regrouping of `source` into dimensions of the sizes `target`.

    An axis larger than the dimension it meets is factored; one that straddles a border is an error.
    """
    atoms = [axis for term in source for axis in expand(term)]
    out: Dims = []
    for size in target:
        taken: list[Axis] = []
        while size_of(taken) < size:
            axis = atoms.pop(0)
            need = size // size_of(taken)
            if axis.size > need:
                if axis.size % need or size % size_of(taken):
                    raise fail(
                        str(node.name),
                        f"{node.op_type} {list(map(list, source))} -> "
                        f"{target} folds {axis!r} into another axis",
                    )
                axis, rest = factor(axis, need, str(node.name))
                atoms.insert(0, rest)
            taken.append(axis)
        if size_of(taken) != size:
            raise fail(
                str(node.name),
                f"{node.op_type} {list(map(list, source))} -> {target} folds "
                f"{taken[-1]!r} into another axis",
            )
        out.append(tuple(taken))
    return out


def reshape(found: Analysis, node: ir.Node) -> list[Dims]:
    constant(node, 1)
    out = regroup(found.input(node, 0), _static(node.outputs[0]), node)
    found.derive(node, 1, lambda: sizes(out))
    return [out]


def flatten(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    axis = normal_axis(attribute(node, "axis", 1), len(x))
    join = lambda dims: tuple(a for term in dims for a in term)  # noqa: E731
    return [[join(x[:axis]), join(x[axis:])]]


def transpose(found: Analysis, node: ir.Node) -> list[Dims]:
    x = found.input(node, 0)
    return [[x[p] for p in attribute(node, "perm", list(range(len(x)))[::-1])]]


def squeeze(found: Analysis, node: ir.Node) -> list[Dims]:
    x, axes = found.input(node, 0), constant(node, 1)
    gone = {normal_axis(int(a), len(x)) for a in axes} if axes is not None else None
    return [
        [t for i, t in enumerate(x) if (i not in gone if gone is not None else size_of(t) != 1)]
    ]


def unsqueeze(found: Analysis, node: ir.Node) -> list[Dims]:
    x, axes = list(found.input(node, 0)), constant(node, 1)
    for axis in sorted(normal_axis(int(a), len(x) + len(axes)) for a in axes):
        x.insert(axis, ())
    return [x]


def expand_op(found: Analysis, node: ir.Node) -> list[Dims]:
    """A stretched dimension is a new axis; the target shape follows from the result."""
    x, shape = found.input(node, 0), [int(d) for d in constant(node, 1)]
    out = list(x) if len(x) >= len(shape) else [()] * (len(shape) - len(x)) + list(x)
    lead = len(out) - len(shape)
    for place, size in enumerate(shape):
        if size != 1 and size_of(out[lead + place]) == 1:
            out[lead + place] = (Axis(size, str(node.name)),)
    found.derive(node, 1, lambda: sizes(out[lead:]))
    return [out]


def concat(found: Analysis, node: ir.Node) -> list[Dims]:
    parts = inputs(found, node)
    axis = normal_axis(attribute(node, "axis"), len(parts[0]))
    out = meet(node, [[t if i != axis else () for i, t in enumerate(d)] for d in parts])
    out[axis] = concatenate([d[axis] for d in parts], str(node.name))
    return [out]


def split(found: Analysis, node: ir.Node) -> list[Dims]:
    x, name = found.input(node, 0), str(node.name)
    axis = normal_axis(attribute(node, "axis", 0), len(x))
    given = constant(node, 1)
    count = attribute(node, "num_outputs", len(node.outputs))
    whole = -(-size_of(x[axis]) // count)
    lengths = given.tolist() if given is not None else [whole] * (count - 1)
    lengths += [size_of(x[axis]) - sum(lengths)] if given is None else []
    starts = np.cumsum([0, *lengths])[:-1].tolist()
    parts = [section(x[axis], s, n, name) for s, n in zip(starts, lengths, strict=True)]
    if given is not None:
        found.derive(node, 1, lambda: sizes(parts))
    else:
        for part in parts[1:]:  # equal parts by definition: cutting one must cut all
            if size_of(part) != size_of(parts[0]):
                raise fail(name, "Split by num_outputs leaves unequal parts")
    return [[*x[:axis], part, *x[axis + 1 :]] for part in parts]


def slice_op(found: Analysis, node: ir.Node) -> list[Dims]:
    """Steps of 1 make the axis a sum; other steps make a new axis and pin the old one."""
    x, name = list(found.input(node, 0)), str(node.name)
    starts, ends = constant(node, 1), constant(node, 2)
    axes = constant(node, 3)
    steps = constant(node, 4)
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    cuts: list[tuple[Term, Term]] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = normal_axis(int(axis), len(x))
        whole = x[axis]
        begin, stop, stride = slice(int(start), int(end), int(step)).indices(size_of(whole))
        length = len(range(begin, stop, stride))
        if stride == 1:
            x[axis] = section(whole, begin, length, name)
            before = section(whole, 0, begin, name) if begin else None
            cuts.append((before, x[axis]))
            continue
        for atom in expand(whole):
            atom.pinned = f"{name} takes every {stride}th element of it"
        x[axis] = () if length == 1 else (Axis(length, name),)
        cuts.append((None, None))
    if all(part is not None for _, part in cuts):
        offsets = lambda: np.array([0 if b is None else size_of(b) for b, _ in cuts], np.int64)  # noqa: E731
        found.derive(node, 1, offsets)
        found.derive(node, 2, lambda: offsets() + sizes([part for _, part in cuts]))
    return [x]


def tile(found: Analysis, node: ir.Node) -> list[Dims]:
    out = []
    for term, count in zip(found.input(node, 0), constant(node, 1).tolist(), strict=True):
        out.append(term if count == 1 else (Axis(count, str(node.name)), *term))
    return [out]


def _static(value: ir.Value) -> list[int]:
    if value.shape is None or not all(isinstance(d, int) for d in value.shape):
        raise fail(str(value.name), f"its shape {value.shape} is not static")
    return [int(d) for d in value.shape]


RULES: dict[str, Rule] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand_op,
    "Concat": concat,
    "Split": split,
    "Slice": slice_op,
    "Tile": tile,
}
