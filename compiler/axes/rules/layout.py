"""Ops that only move elements: axes are factored, permuted, joined, never invented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevlm.compiler.axes.axis import Axis, Term, expand, fail, fresh_term, size_of
from edgevlm.compiler.axes.equations import concatenate, factor
from edgevlm.compiler.axes.rules.common import (
    Rule,
    attribute,
    constant,
    inputs,
    meet,
    normal_axis,
    sizes,
    static_shape,
    who,
)

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis, Dims

__all__ = ["RULES", "regroup"]


def regroup(source: Dims, target: list[int], node: ir.Node) -> Dims:
    """Row-major regrouping of `source` into dimensions of the sizes `target`.

    An axis larger than the dimension it meets is factored; one that straddles a border is an error.
    """
    atoms = [axis for term in source for axis in expand(term)]
    if size_of(atoms) != size_of_all(target):
        raise fail(who(node), f"{node.op_type} of {size_of(atoms)} elements into {target}")
    out: Dims = []
    for size in target:
        taken: list[Axis] = []
        while size_of(taken) < size:
            axis = atoms.pop(0)
            need, left = divmod(size, size_of(taken))
            if left or (axis.size > need and axis.size % need):
                raise _folds(source, target, axis, node)
            if axis.size > need:
                axis, rest = factor(axis, need, who(node))
                atoms.insert(0, rest)
            taken.append(axis)
        if size_of(taken) != size:
            raise _folds(source, target, taken[-1], node)
        out.append(tuple(taken))
    return out


def size_of_all(target: list[int]) -> int:
    total = 1
    for size in target:
        total *= size
    return total


def _folds(source: Dims, target: list[int], axis: Axis, node: ir.Node) -> Exception:
    return fail(
        who(node),
        f"{node.op_type} {[size_of(t) for t in source]} -> {target} folds {axis!r} into another "
        "axis",
    )


def reshape(found: Analysis, node: ir.Node) -> list[Dims]:
    constant(node, 1)
    out = regroup(found.input(node, 0), list(static_shape(node.outputs[0])), node)
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
    if axes is not None:
        gone = {normal_axis(int(a), len(x)) for a in axes}
        return [[t for i, t in enumerate(x) if i not in gone]]
    kept = [t for t in x if size_of(t) != 1]
    found.limit(
        node,
        lambda: (
            "a Squeeze without axes would drop a dimension of size 1"
            if any(size_of(t) == 1 for t in kept)
            else None
        ),
    )
    return [kept]


def unsqueeze(found: Analysis, node: ir.Node) -> list[Dims]:
    x, axes = list(found.input(node, 0)), constant(node, 1)
    for axis in sorted(normal_axis(int(a), len(x) + len(axes)) for a in axes):
        x.insert(axis, ())
    return [x]


def expand_op(found: Analysis, node: ir.Node) -> list[Dims]:
    """A stretched dimension is a new axis; the target shape follows from the result."""
    x, shape = found.input(node, 0), [int(d) for d in constant(node, 1)]
    out: Dims = [()] * (len(shape) - len(x)) + list(x)
    lead = len(out) - len(shape)
    for place, size in enumerate(shape):
        if size != 1 and size_of(out[lead + place]) == 1:
            out[lead + place] = fresh_term(size, who(node))
    found.derive(node, 1, lambda: sizes(out[lead:]))
    return [out]


def concat(found: Analysis, node: ir.Node) -> list[Dims]:
    parts = inputs(found, node)
    axis = normal_axis(attribute(node, "axis"), len(parts[0]))
    across = [[t if i != axis else () for i, t in enumerate(d)] for d in parts]
    for place in range(len(parts[0])):  # unlike Add, Concat does not stretch a dimension of 1
        if len({size_of(dims[place]) for dims in across}) > 1:
            raise fail(who(node), f"its inputs differ in dimension {place}")
    out = meet(node, across)
    out[axis] = concatenate([d[axis] for d in parts], who(node))
    return [out]


def tile(found: Analysis, node: ir.Node) -> list[Dims]:
    """Copies are a new axis outside the old one."""
    x, counts = found.input(node, 0), constant(node, 1)
    copies: list[Term] = [fresh_term(int(n), who(node)) for n in counts]
    found.derive(node, 1, lambda: sizes(copies))
    return [[(*copy, *term) for copy, term in zip(copies, x, strict=True)]]


RULES: dict[str, Rule] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand_op,
    "Concat": concat,
    "Tile": tile,
}
