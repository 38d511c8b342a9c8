"""Names the ops did not give: hidden units, and the parts of what has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevlm.compiler.axes.axis import Axis, Term, expand, label, stronger
from edgevlm.compiler.axes.equations import parts_of
from edgevlm.compiler.axes.rules.common import attribute, is_stored

if TYPE_CHECKING:
    from edgevlm.compiler.axes.analysis import Analysis

__all__ = ["name_of", "name_the_rest"]


def name_of(term: Term) -> str:
    """One dimension, readably."""
    atoms = expand(term)
    if not atoms:
        return "1"
    return "*".join(atom.label or f"?{atom.size}" for atom in atoms)


def name_the_rest(found: Analysis) -> None:
    """An axis between two weight matrices is `hidden`; parts of a sum share its name."""
    rows, columns = set[Axis](), set[Axis]()
    for node in found.graph:
        # a quantised matrix is a DequantizeLinear away from its MatMul
        if node.op_type not in ("MatMul", "Gemm") or not is_stored(node.inputs[1]):
            continue
        dims = found.input(node, 1)
        if len(dims) == 2:
            row, column = dims[::-1] if attribute(node, "transB", 0) else dims
            rows.update(_alone(row))
            columns.update(_alone(column))
    for axis in rows & columns:
        if axis.label is None:
            label((axis,), "hidden")
    _share(_sums(found))


def _alone(term: Term) -> list[Axis]:
    """The atoms that are a whole dimension, or a whole part of a concatenated one."""
    return [part[0] for part in parts_of(term) if len(part) == 1]


def _sums(found: Analysis) -> list[Axis]:
    """The concatenations among the dimensions of all values."""
    terms = (term for dims in found.terms.values() for term in dims)
    return list({a: None for term in terms for a in expand(term) if a.summands is not None})


def _share(sums: list[Axis]) -> None:
    """Parts without a name take that of the sum; a sum takes the name that all its parts have."""
    parts = {total: [a for part in parts_of((total,)) for a in expand(part)] for total in sums}
    given: dict[Axis, str | None] = {}
    for total, atoms in parts.items():
        for atom in atoms:
            if atom.label is None:
                given[atom] = stronger(given.get(atom), total.label)
    for atom, name in given.items():
        atom.label = name
    for total, atoms in parts.items():
        if total.label is None and len({atom.label for atom in atoms}) == 1:
            total.label = atoms[0].label
