"""Change the size of one axis, everywhere it occurs.

    axes = analyse(graph, signature)
    resize(axes, axes.of(value)[1], 16)             # sizes only: nothing stored lies along it
    resize(axes, axes.of(value)[1], 16, keep=idx)   # and these are the elements that stay

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
from edgevlm.compiler.axes.rewrite import Rewriter
from edgevlm.compiler.axes.rules.common import who
from edgevlm.compiler.errors import JobFault

__all__ = ["carries", "resize", "single"]


def single(term: Term, what: str) -> Axis:
    """The one atom of a term. Raises EV211, naming `what`, where it is a product or a sum."""
    atoms = expand(term)
    if not atoms:
        raise _refuse(what, "a dimension of one element has no axis")
    if len(atoms) != 1:
        raise _refuse(what, f"the axis is folded into {atoms}; its elements are not single there")
    if atoms[0].summands is not None:
        raise _refuse(
            what, f"the axis is a concatenation of {atoms[0].summands}; name the part to resize"
        )
    return atoms[0]


def carries(term: Term, axis: Axis) -> bool:
    """Whether `axis` occurs in a term, inside products and sums too."""
    return not ancestors(axis).isdisjoint(expand(term))


def resize(
    found: Analysis, term: Term, size: int, keep: Sequence[int] | np.ndarray | None = None
) -> list[str]:
    """Give an axis `size` elements; returns what was rewritten, a sentence each.

    keep: strictly ascending indices (int) of the elements that stay; needed if any initializer lies
    along the axis. Raises EV211 if the axis is pinned or folded, if a node cannot take the new
    size, or if `keep` is wrong, or needed and missing.
    """
    axis = single(term, _opener(found, term))
    above = ancestors(axis)
    index = None if keep is None else _checked(keep, size, axis)
    if size < 1:
        raise _refuse(axis.origin, f"{axis!r} cannot have {size} elements")
    if axis.size == size:
        return []
    pins = sorted(each.pinned for each in above if each.pinned)
    if pins:
        node, why = pins[0]
        raise _refuse(node, f"{axis!r} cannot change: {why}")

    cuts = [
        (node, position, [_kept(t, axis, above, index, node, position) for t in dims])
        for (node, position), dims in found.weights.items()
        if (node, position) not in found.constants
        and any(not above.isdisjoint(expand(t)) for t in dims)
    ]
    before, axis.size = axis.size, size
    for limit in found.limits:
        broken = limit()
        if broken:
            axis.size = before
            raise _refuse(*broken)
    edit = Rewriter(found)
    for node, position, kept in cuts:
        edit.cut(node, position, kept)
    edit.renew()
    for value, dims in found.terms.items():
        value.shape = ir.Shape([size_of(t) for t in dims])
    return edit.log


def _refuse(what: str, why: str) -> JobFault:
    return JobFault(
        "EV211",
        f"resize stops at {what}",
        why,
        "edgevlm inspect MODEL --axes  shows the axes of every value",
    )


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
        raise _refuse(axis.origin, "keep is not a list of indices")
    index = index.astype(np.int64)
    if len(index) != size:
        raise _refuse(axis.origin, f"keep has {len(index)} indices for {size} elements")
    if (np.diff(index) <= 0).any():
        raise _refuse(axis.origin, "the indices to keep are not strictly ascending")
    if index[0] < 0 or index[-1] >= axis.size:
        raise _refuse(
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
        raise _refuse(
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
