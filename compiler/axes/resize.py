"""Change the size of one axis, everywhere it occurs.

    axes = analyse(graph, signature)
    resize(axes, axes.of(value)[1], 16)             # sizes only: nothing stored lies along it
    resize(axes, axes.of(value)[1], 16, keep=idx)   # and these are the elements that stay
    resize(axes, grid, 4, resample=bicubic)         # or: what is stored along it is drawn anew

Weights that lie along the axis are cut to `keep`, whatever product or sum the axis is part of;
every constant and attribute that follows from sizes (reshape targets, slice ends, split sizes, k,
head counts) is computed anew; the shapes of all values are set. Other uses of a shared weight keep
the old one. A call that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.axes.analysis import Analysis
from edgevlm.compiler.axes.axis import Axis, Term, ancestors, expand, size_of
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.resample import Resample, drawn_anew, refused
from edgevlm.compiler.axes.rewrite import Rewriter
from edgevlm.compiler.axes.rules.common import who

__all__ = ["carries", "resize", "single"]


def single(term: Term, what: str) -> Axis:
    """The one atom of a term. Raises EV211, naming `what`, where it is a product or a sum."""
    atoms = expand(term)
    if not atoms:
        raise refused(what, "a dimension of one element has no axis")
    if len(atoms) != 1:
        raise refused(what, f"the axis is folded into {atoms}; its elements are not single there")
    if atoms[0].summands is not None:
        raise refused(
            what, f"the axis is a concatenation of {atoms[0].summands}; name the part to resize"
        )
    return atoms[0]


def carries(term: Term, axis: Axis) -> bool:
    """Whether `axis` occurs in a term, inside products and sums too."""
    return not ancestors(axis).isdisjoint(expand(term))


def resize(
    found: Analysis,
    term: Term,
    size: int,
    keep: Sequence[int] | np.ndarray | None = None,
    resample: Resample | None = None,
) -> list[str]:
    """Give an axis `size` elements; returns what was rewritten, a sentence each.

    keep: strictly ascending indices (int) of the elements that stay; needed if any initializer lies
    along the axis, unless `resample` says what stands there then. Raises EV211 if the axis is
    pinned or folded, if a node cannot take the new size, if `keep` is wrong, or needed and missing,
    or if what would be resampled is no table of numbers over the axis.
    """
    axis = single(term, _opener(found, term))
    above = ancestors(axis)
    index = None if keep is None else _checked(keep, size, axis)
    if size < 1:
        raise refused(axis.origin, f"{axis!r} cannot have {size} elements")
    if axis.size == size:
        return []
    pins = sorted(each.pinned for each in above if each.pinned)
    if pins:
        node, why = pins[0]
        raise refused(node, f"{axis!r} cannot change: {why}")

    along = [
        (node, position, dims)
        for (node, position), dims in found.weights.items()
        if (node, position) not in found.constants
        and any(not above.isdisjoint(expand(t)) for t in dims)
    ]
    if resample is None:
        cuts = [
            (node, position, [_kept(t, axis, above, index, node, position) for t in dims])
            for node, position, dims in along
        ]
    else:
        drawn = [drawn_anew(*place, axis, above, resample, size) for place in along]
    before, axis.size = axis.size, size
    for limit in found.limits:
        broken = limit()
        if broken:
            axis.size = before
            raise refused(*broken)
    edit = Rewriter(found)
    if resample is None:
        for node, position, kept in cuts:
            edit.cut(node, position, kept)
    else:
        for (node, position, _), array in zip(along, drawn, strict=True):
            edit.exchange(node, position, array)
    edit.renew()
    for value, dims in found.terms.items():
        if value.shape is None or any(each.root in above for term in dims for each in term):
            value.shape = ir.Shape([size_of(t) for t in dims])
    return edit.log


def _opener(found: Analysis, term: Term) -> str:
    """The node that made a term more than one atom, for the message."""
    for axis in term:
        if axis.root.opened_by is not None:
            return axis.root.opened_by
    atoms = expand(term)
    for node in found.graph:
        if any(expand(t) == atoms for v in node.outputs for t in found.terms.get(v, ())):
            return who(node)
    return "a graph input"


def _checked(keep: Sequence[int] | np.ndarray, size: int, axis: Axis) -> np.ndarray:
    index = np.asarray(keep)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise refused(axis.origin, "keep is not a list of indices")
    index = index.astype(np.int64)
    if len(index) != size:
        raise refused(axis.origin, f"keep has {len(index)} indices for {size} elements")
    if (np.diff(index) <= 0).any():
        raise refused(axis.origin, "the indices to keep are not strictly ascending")
    if index[0] < 0 or index[-1] >= axis.size:
        raise refused(
            axis.origin,
            f"keep reaches from {index[0]} to {index[-1]}; {axis!r} has no such elements",
        )
    return index


def _kept(
    term: Term,
    axis: Axis,
    above: set[Axis],
    keep: np.ndarray | None,
    node: ir.Node,
    position: int,
) -> np.ndarray | None:
    """Old positions along one dimension of a stored tensor that stay; None for all of them."""
    if above.isdisjoint(expand(term)):
        return None
    if keep is None:
        raise refused(
            str(node.inputs[position].name),
            f"this stored tensor (input {position} of {who(node)}) lies along {axis!r}; which "
            "elements stay must be known when compiling",
        )
    return _positions(term, axis, above, keep)


def _positions(term: Term, axis: Axis, above: set[Axis], keep: np.ndarray) -> np.ndarray:
    out = np.zeros(1, np.int64)
    for atom in expand(term):
        if atom is axis:
            here = keep
        elif atom in above:
            parts = parts_of((atom,))
            starts = np.cumsum([0, *(size_of(part) for part in parts)])[:-1]
            pieces = [_positions(part, axis, above, keep) for part in parts]
            here = np.concatenate([s + p for s, p in zip(starts, pieces, strict=True)])
        else:
            here = np.arange(atom.size)
        out = (out[:, None] * atom.size + here[None, :]).reshape(-1)
    return out
