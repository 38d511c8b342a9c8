"""Axes as unknowns: what one dimension of a tensor *is*, independent of the number that says how long.

Every dimension is a product of axes in row-major order (`Term`); a dimension of size 1 is the empty
product. Two facts about a graph turn into equations between terms:

    Add(a, b)              the dimensions that meet are the same axis              -> `unify`
    Reshape 128 -> 4 x 32  the axis of 128 is a product of two axes, everywhere    -> `factor`
    Concat 1 + 64          the new axis is a sum of two                            -> `concatenate`
    Slice [1:65]           the sliced axis is a sum, the result is one summand     -> `section`

The equations are solved as they come, by union-find, so one walk over the graph is enough, and a
refinement found late (a reshape at the end of a block) is at once true of the weight matrix at its
beginning. An equation without a solution is an error that names the node, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from edgevlm.compiler.errors import JobFault

__all__ = [
    "Axis",
    "Term",
    "concatenate",
    "expand",
    "factor",
    "label",
    "section",
    "size_of",
    "unify",
]

Term = tuple["Axis", ...]


class Axis:
    """One unknown. It is an atom, or a product (`factors`), or a sum (`summands`) of other axes."""

    __slots__ = ("_size", "factors", "label", "origin", "pinned", "same_as", "summands")

    def __init__(self, size: int, origin: str) -> None:
        self._size = int(size)
        self.origin = origin  # the node or value that introduced it, for messages
        self.label: str | None = None
        self.pinned: str | None = None  # why it must keep its size
        self.same_as: Axis | None = None  # union-find parent
        self.factors: Term | None = None
        self.summands: list[Term] | None = None

    @property
    def root(self) -> Axis:
        axis = self
        while axis.same_as is not None:
            axis = axis.same_as
        return axis

    @property
    def size(self) -> int:
        """Elements along the axis, computed from its factors or summands where it has any."""
        axis = self.root
        if axis.factors is not None:
            return size_of(axis.factors)
        if axis.summands is not None:
            return sum(size_of(term) for term in axis.summands)
        return axis._size

    @size.setter
    def size(self, value: int) -> None:
        self.root._size = int(value)

    def __repr__(self) -> str:
        axis = self.root
        return f"{axis.label or 'axis'}:{axis.size}"


def fail(node: str, why: str) -> JobFault:
    """The error of an equation that has no solution."""
    return JobFault(
        "EV211",
        f"axis analysis stops at {node}",
        why,
        "edgevlm inspect MODEL --axes  shows the axes up to this node",
    )


def expand(term: Iterable[Axis]) -> list[Axis]:
    """The atoms and sums a term is a product of, products opened, in row-major order."""
    out: list[Axis] = []
    for axis in term:
        root = axis.root
        out.extend(expand(root.factors) if root.factors is not None else [root])
    return out


def size_of(term: Iterable[Axis]) -> int:
    return math.prod(axis.size for axis in term)


def label(term: Term, name: str) -> None:
    """Name the axes of a term; the first name stays (a key's sequence axis may be `token` already)."""
    for axis in expand(term):
        if axis.label is None:
            axis.label = name


def factor(axis: Axis, outer: int, node: str) -> Term:
    """Make `axis` the product (outer, size / outer), wherever it occurs."""
    axis = axis.root
    if axis.size % outer:
        raise fail(
            node,
            f"{axis!r} from {axis.origin} would have to split as {outer} x {axis.size / outer:.3g}",
        )
    if axis.summands is not None:
        raise fail(
            node,
            f"{axis!r} from {axis.origin} is a concatenation and is folded here into "
            f"{outer} x {axis.size // outer}",
        )
    parts = (Axis(outer, axis.origin), Axis(axis.size // outer, axis.origin))
    for part in parts:
        part.label, part.pinned = axis.label, axis.pinned
    axis.factors = parts
    return parts


def unify(left: Term, right: Term, node: str) -> None:
    """State that two terms are the same dimension. Raises EV211 if they cannot be."""
    if size_of(left) != size_of(right):
        raise fail(
            node,
            f"dimensions of {size_of(left)} ({list(left)}) and {size_of(right)} "
            f"({list(right)}) elements meet",
        )
    a, b = expand(left), expand(right)
    while a and b:
        x, y = a[0].root, b[0].root
        if x is y:
            a.pop(0), b.pop(0)
        elif x.size == y.size:
            a.pop(0), b.pop(0)
            _merge(x, y, node)
        elif x.size > y.size:
            a[:1] = factor(x, y.size, node)
        else:
            b[:1] = factor(y, x.size, node)


def _merge(keep: Axis, gone: Axis, node: str) -> None:
    gone.same_as = keep
    keep.label = keep.label or gone.label
    keep.pinned = keep.pinned or gone.pinned
    if keep.summands is None:
        keep.summands = gone.summands
    elif gone.summands is not None:
        terms = _flat_terms(gone.summands)
        _align(keep, [size_of(t) for t in terms], node)
        parts = _flat(keep)
        for term in terms:
            got: list[Term] = []
            while sum(map(size_of, got)) < size_of(term):
                got.append(parts.pop(0))
            if len(got) == 1:
                unify(got[0], term, node)
            else:  # the other side is finer here: its one axis becomes a sum as well
                _refine(term, got, node)


def _refine(term: Term, parts: list[Term], node: str) -> None:
    atoms = expand(term)
    if len(atoms) != 1 or sum(map(size_of, parts)) != size_of(term):
        raise fail(node, f"a concatenation of {[size_of(p) for p in parts]} meets {list(term)}")
    atoms[0].summands = list(parts)


def _flat_terms(terms: Sequence[Term]) -> list[Term]:
    out: list[Term] = []
    for term in terms:
        atoms = expand(term)
        nested = atoms[0].summands if len(atoms) == 1 else None
        out.extend(_flat_terms(nested) if nested is not None else [term])
    return out


def _flat(axis: Axis) -> list[Term]:
    axis = axis.root
    return _flat_terms(axis.summands) if axis.summands is not None else [(axis,)]


def _align(axis: Axis, sizes: Sequence[int], node: str) -> None:
    """Cut the summands of `axis` so that a border falls after each of the running `sizes`."""
    axis = axis.root
    if axis.summands is None:
        axis.summands = [(Axis(axis.size, axis.origin),)]
        for atom in axis.summands[0]:
            atom.label, atom.pinned = axis.label, axis.pinned
    border = 0
    for size in sizes:
        border += size
        at = 0
        for term in _flat(axis):
            if at < border < at + size_of(term):
                atoms = expand(term)
                if len(atoms) != 1:
                    raise fail(node, f"{list(term)} is a product and is cut at {border - at}")
                head = Axis(border - at, atoms[0].origin)
                tail = Axis(size_of(term) - head.size, atoms[0].origin)
                for part in (head, tail):
                    part.label, part.pinned = atoms[0].label, atoms[0].pinned
                atoms[0].summands = [_unit(head), _unit(tail)]
                break
            at += size_of(term)


def _unit(axis: Axis) -> Term:
    return () if axis.size == 1 else (axis,)


def concatenate(terms: Sequence[Term], node: str) -> Term:
    """The dimension made by laying dimensions end to end."""
    if len(terms) == 1:
        return terms[0]
    total = Axis(sum(size_of(t) for t in terms), node)
    total.summands = list(terms)
    return (total,)


def section(term: Term, start: int, length: int, node: str) -> Term:
    """The dimension made by taking `length` elements from `start`; the whole is a sum from now on."""
    total = size_of(term)
    if (start, length) == (0, total):
        return term
    atoms = expand(term)
    if len(atoms) != 1:
        raise fail(node, f"{list(term)} is a product and is cut at {start}:{start + length}")
    axis = atoms[0]
    _align(axis, [start, length, total - start - length], node)
    at, got = 0, []
    for part in _flat(axis):
        if start <= at < start + length:
            got.append(part)
        at += size_of(part)
    return concatenate(got, node)
