"""Axes as unknowns: what one dimension of a tensor *is*, whatever number says how long it is.

Every dimension is a product of axes in row-major order (`Term`); a dimension of size 1 is the empty
product. An axis is an atom, or was found to be a product (`factors`) or a sum (`summands`) of other
axes. Which axes are the same is kept by union-find; `equations.py` says how two terms become equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from edgevlm.compiler.errors import JobFault

__all__ = ["Axis", "Term", "ancestors", "expand", "fail", "fresh_term", "label", "pin", "size_of"]

Term = tuple["Axis", ...]

#: a name further right wins where several are true of one axis; a caller's own name wins over all
NAMES = (
    "pixel", "hidden", "channel", "batch", "kv", "token", "frame", "head", "group", "head_dim",
    "class",
)  # fmt: skip


class Axis:
    """One unknown. It is an atom, or a product (`factors`), or a sum (`summands`) of other axes."""

    __slots__ = (
        "_size", "factors", "label", "opened_by", "origin", "pinned", "same_as", "summands",
        "users",
    )  # fmt: skip

    def __init__(self, size: int, origin: str) -> None:
        self._size = int(size)
        self.origin = origin  # the node or value that introduced it, for messages
        self.label: str | None = None
        self.pinned: tuple[str, str] | None = None  # (node, why it must keep its size)
        self.opened_by: str | None = None  # the node that made it a product or a sum
        self.same_as: Axis | None = None  # union-find parent
        self.factors: Term | None = None
        self.summands: list[Term] | None = None
        self.users: list[Axis] = []  # the products and sums it is a direct part of

    @property
    def root(self) -> Axis:
        axis = self
        while axis.same_as is not None:
            if axis.same_as.same_as is not None:
                axis.same_as = axis.same_as.same_as  # halve the path: a residual stream is long
            axis = axis.same_as
        return axis

    @property
    def size(self) -> int:
        """Elements along the axis."""
        return self.root._size

    @size.setter
    def size(self, value: int) -> None:
        """Set an atom's size; every product and sum it is part of follows."""
        self.root._size = int(value)
        waiting = [self.root]
        while waiting:
            for user in waiting.pop().users:
                owner = user.root
                if owner.factors is not None:
                    now = size_of(owner.factors)
                else:
                    now = sum(size_of(term) for term in owner.summands)
                if now != owner._size:
                    owner._size = now
                    waiting.append(owner)

    def open(
        self, node: str, factors: Term | None = None, summands: list[Term] | None = None
    ) -> None:
        """Make this axis a product or a sum."""
        self.factors, self.summands, self.opened_by = factors, summands, node
        for part in {axis.root for term in summands or [factors] for axis in term}:
            part.users.append(self)

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


def fresh_term(size: int, origin: str) -> Term:
    """A dimension nothing is known of; one of size 1 has no axis."""
    return () if size == 1 else (Axis(size, origin),)


def expand(term: Iterable[Axis]) -> list[Axis]:
    """The atoms and sums a term is a product of, products opened, in row-major order.

    Every factor is at least 2, so the depth is at most the binary logarithm of the size.
    """
    out: list[Axis] = []
    for axis in term:
        root = axis.root
        out.extend(expand(root.factors) if root.factors is not None else [root])
    return out


def size_of(term: Iterable[Axis]) -> int:
    """Elements along a dimension."""
    return math.prod(axis.size for axis in term)


def ancestors(axis: Axis) -> set[Axis]:
    """The axis itself and every product and sum that it is part of, however deep."""
    found, waiting = {axis.root}, [axis.root]
    while waiting:
        above = {user.root for user in waiting.pop().users} - found
        found |= above
        waiting.extend(above)
    return found


def label(term: Term, name: str) -> None:
    """Name the axes of a term. The stronger name stays, in whatever order they are given."""
    for axis in expand(term):
        axis.label = stronger(axis.label, name)


def stronger(left: str | None, right: str | None) -> str | None:
    """The more telling of two names."""
    if left is None or right is None:
        return left or right
    return max(left, right, key=_strength)


def _strength(name: str) -> tuple[int, str]:
    return (NAMES.index(name) if name in NAMES else len(NAMES), name)


def pin(term: Term, node: str, why: str) -> None:
    """State that the axes of a term must keep their sizes."""
    for axis in expand(term):
        axis.pinned = axis.pinned or (node, why)
