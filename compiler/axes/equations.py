"""The equations between axes, solved as they come.

    Add(a, b)              the dimensions that meet are the same axis              -> `unify`
    Reshape 128 -> 4 x 32  the axis of 128 is a product of two axes, everywhere    -> `factor`
    Concat 1 + 64          the new axis is a sum of two                            -> `concatenate`
    Slice [1:65]           the sliced axis is a sum, the result is one summand     -> `section`

One walk over the graph is enough, and a refinement found late (a reshape at the end of a block) is
at once true of the weight matrix at its beginning. Product and sum obey one law, that of row-major
order: (a + b) x c = a x c + b x c. An equation without a solution names the node, never guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from edgevlm.compiler.axes.axis import (
    Axis,
    Term,
    expand,
    fail,
    fresh_term,
    size_of,
    stronger,
)

__all__ = ["concatenate", "factor", "parts_of", "section", "unify"]


def factor(axis: Axis, outer: int, node: str) -> Term:
    """Make `axis` the product (outer, size / outer), wherever it occurs."""
    axis = axis.root
    if axis.size % outer:
        raise fail(
            node,
            f"{axis!r} from {axis.origin} would have to split as {outer} x {axis.size / outer:.3g}",
        )
    parts = tuple(Axis(size, axis.origin) for size in (outer, axis.size // outer))
    for part in parts:
        part.label, part.pinned = axis.label, axis.pinned
    if axis.factors is not None:
        unify(parts, axis.factors, node)
    elif axis.summands is not None:
        _factor_sum(axis, parts, node)
    else:
        axis.open(node, factors=parts)
    return parts


def _factor_sum(axis: Axis, parts: Term, node: str) -> None:
    """a x c + b x c -> (a + b) x c; a border inside a row is one in every row."""
    pairs = _aligned((axis,), parts, node)
    axis.open(node, factors=parts)
    for mine, its in pairs:
        unify(mine, its, node)


def unify(left: Term, right: Term, node: str) -> None:
    """State that two terms are the same dimension. Raises EV211 if they cannot be."""
    if size_of(left) != size_of(right):
        raise fail(
            node,
            f"dimensions of {size_of(left)} ({list(left)}) and {size_of(right)} "
            f"({list(right)}) elements meet",
        )
    # an axis may occur twice, so that solving for its first occurrence opens the second
    a, b = list(left), list(right)
    while a and b:
        x, y = a[0].root, b[0].root
        if x.factors is not None:
            a[:1] = x.factors
        elif y.factors is not None:
            b[:1] = y.factors
        elif x.size == y.size:
            del a[0], b[0]
            _merge(x, y, node)
        elif x.size > y.size:
            factor(x, y.size, node)
        else:
            factor(y, x.size, node)


def _merge(keep: Axis, gone: Axis, node: str) -> None:
    if keep is gone:
        return
    pairs: list[tuple[Term, Term]] = []
    if keep.summands is not None and gone.summands is not None:
        pairs = _aligned((keep,), (gone,), node)
    elif gone.summands is not None:
        keep.summands, keep.opened_by = gone.summands, gone.opened_by
    gone.same_as = keep
    keep.users.extend(gone.users)
    keep.label = stronger(keep.label, gone.label)
    keep.pinned = keep.pinned or gone.pinned
    for mine, its in pairs:
        unify(mine, its, node)


def parts_of(term: Term) -> list[Term]:
    """A dimension as dimensions laid end to end: itself, or the summands of its outermost axis."""
    out: list[Term] = []
    waiting = [term]
    while waiting:
        atoms = expand(waiting.pop())
        if atoms and atoms[0].summands is not None:
            rest = tuple(atoms[1:])
            waiting.extend((*part, *rest) for part in reversed(atoms[0].summands))
        else:
            out.append(tuple(atoms))
    return out


def _aligned(left: Term, right: Term, node: str) -> list[tuple[Term, Term]]:
    """Cut two dimensions of one size at each other's borders; returns the parts that meet."""
    while (borders := _borders(left)) != (others := _borders(right)):
        _cut(left, others, node)
        _cut(right, borders, node)
    return list(zip(parts_of(left), parts_of(right), strict=True))


def _borders(term: Term) -> list[int]:
    return list(accumulate(size_of(part) for part in parts_of(term)))


def _cut(term: Term, borders: Iterable[int], node: str) -> None:
    """Make a dimension a sum with a border at each of the given places, where inside it."""
    for border in borders:
        at = 0
        for part in parts_of(term):
            if at < border < at + size_of(part):
                _cut_part(part, border - at, node)
                break
            at += size_of(part)


def _cut_part(part: Term, place: int, node: str) -> None:
    """The outer axis is cut between rows; for a cut inside a row that row is set apart first."""
    outer, inner = part[0], part[1:]
    row, offset = divmod(place, size_of(inner))
    marks = [0, *(m for m in (row, row + bool(offset)) if 0 < m < outer.size), outer.size]
    sizes = [b - a for a, b in pairwise(marks) if b > a]
    outer.open(node, summands=[fresh_term(size, outer.origin) for size in sizes])
    if offset:
        _cut(inner, [offset], node)


def concatenate(terms: Sequence[Term], node: str) -> Term:
    """The dimension made by laying dimensions end to end."""
    if len(terms) == 1:
        return terms[0]
    total = Axis(sum(size_of(term) for term in terms), node)
    total.open(node, summands=list(terms))
    return (total,)


def section(term: Term, start: int, length: int, node: str) -> Term:
    """The dimension made by `length` elements from `start`; the whole is a sum from now on."""
    total = size_of(term)
    if (start, length) == (0, total):
        return term
    if not 0 <= start < start + length <= total:
        raise fail(node, f"{list(term)} has no elements {start}:{start + length}")
    outer, *rest = expand(term)
    inner = size_of(rest)
    if start % inner or length % inner:
        outer, rest, inner = None, [], 1
    ends = (start, start + length)
    _cut(term, ends, node)
    at, got = 0, []
    for part in parts_of((outer,) if outer else term):
        if ends[0] <= at * inner < ends[1]:
            got.append(part)
        at += size_of(part)
    return (*concatenate(got, node), *rest)
