"""The algebra of axes on random equations: order does not matter, sizes are conserved."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes.axis import Axis, Term, expand, size_of
from edgevlm.compiler.axes.equations import concatenate, factor, parts_of, section, unify
from edgevlm.compiler.errors import JobFault

quick = settings(max_examples=60, deadline=None, derandomize=True)
few = st.integers(2, 4)


def shape_of(term: Term, names: dict[Axis, int]) -> tuple:
    """The structure of a term up to renaming: parts end to end, each a product of numbers."""
    return tuple(
        tuple(
            (names.setdefault(atom, len(names)), atom.size)
            if atom.summands is None
            else shape_of((atom,), names)
            for atom in part
        )
        for part in parts_of(term)
    )


def structure(terms: list[Term]) -> list[tuple]:
    names: dict[Axis, int] = {}
    return [shape_of(term, names) for term in terms]


@st.composite
def groupings(draw):
    """Atoms and several ways to see runs of them as dimensions."""
    atoms = draw(st.lists(few, min_size=2, max_size=5))
    cuts = st.sets(st.integers(1, len(atoms) - 1))
    views = draw(st.lists(cuts, min_size=2, max_size=4))
    order = draw(st.permutations(range(len(views) - 1)))
    return atoms, views, order


def products(atoms, views) -> list[Term]:
    made = []
    for cuts in views:
        borders = [0, *sorted(cuts), len(atoms)]
        sizes = [prod(atoms[a:b]) for a, b in pairwise(borders)]
        made.append(tuple(Axis(size, "n") for size in sizes))
    return made


@quick
@given(groupings())
def test_products_are_refined_to_all_borders_in_any_order(case):
    atoms, views, order = case
    results = []
    for steps in (range(len(views) - 1), order):
        terms = products(atoms, views)
        for i in steps:
            unify(terms[i], terms[i + 1], "n")
        assert all(size_of(term) == prod(atoms) for term in terms)
        results.append(structure(terms))
    assert results[0] == results[1]
    borders = [0, *sorted(set().union(*views)), len(atoms)]
    pieces = [prod(atoms[a:b]) for a, b in pairwise(borders)]
    assert results[0] == [(tuple(enumerate(pieces)),)] * len(views)


@st.composite
def partitions(draw):
    total = draw(st.integers(4, 14))
    cuts = st.sets(st.integers(1, total - 1), min_size=1, max_size=4)
    views = draw(st.lists(cuts, min_size=2, max_size=4))
    return total, views, draw(st.permutations(range(len(views) - 1)))


@quick
@given(partitions())
def test_sums_are_refined_to_all_borders_in_any_order(case):
    total, views, order = case
    results = []
    for steps in (range(len(views) - 1), order):
        terms = []
        for cuts in views:
            borders = [0, *sorted(cuts), total]
            sizes = [b - a for a, b in pairwise(borders)]
            terms.append(concatenate([() if n == 1 else (Axis(n, "n"),) for n in sizes], "n"))
        for i in steps:
            unify(terms[i], terms[i + 1], "n")
        results.append(structure(terms))
    assert results[0] == results[1]
    found = list(accumulate(size_of(part) for part in parts_of(terms[0])))
    assert found == [*sorted(set().union(*views)), total]


@quick
@given(st.integers(2, 12), st.data())
def test_sections_are_where_they_were_taken(total, data):
    """Whatever else is cut, a section is the run of parts between its borders."""
    (axis,) = whole = (Axis(total, "n"),)
    spans = []
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, total - 1))
        spans.append((start, data.draw(st.integers(1, total - start))))
    taken = [section(whole, start, length, "n") for start, length in spans]
    starts = [0, *accumulate(size_of(part) for part in parts_of(whole))]
    for (start, length), term in zip(spans, taken, strict=True):
        first, last = starts.index(start), starts.index(start + length)
        flat = [atom for part in parts_of(whole)[first:last] for atom in expand(part)]
        assert [atom for part in parts_of(term) for atom in expand(part)] == flat
    assert axis.size == total == sum(size_of(part) for part in parts_of(whole))


@quick
@given(st.integers(2, 5), st.integers(2, 5), st.integers(2, 5), st.data())
def test_factor_and_its_product_are_inverse(a, b, c, data):
    axis = Axis(a * b * c, "n")
    for outer in data.draw(st.permutations([a, a * b])):
        parts = factor(axis, outer, "n")
        assert [size_of((p,)) for p in parts] == [outer, a * b * c // outer]
        assert expand(parts) == expand((axis,))
    assert [x.size for x in expand((axis,))] == [a, b, c]
    again = Axis(a * b * c, "n")
    unify((again,), tuple(expand((axis,))), "n")
    assert again.size == axis.size and expand((again,)) == expand((axis,))


@quick
@given(st.lists(st.tuples(few, few), min_size=1, max_size=4), few, st.data())
def test_product_and_sum_obey_one_law(parts, inner, data):
    """(a + b) x c = a x c + b x c, whether the sum or the product is found first."""
    total = sum(a for a, _ in parts)
    results = []
    for sum_first in (True, False):
        whole = (Axis(total * inner, "n"),)
        steps = [
            lambda w=whole: factor(w[0], total, "n"),
            lambda w=whole: [
                section(w, sum(p for p, _ in parts[:i]) * inner, a * inner, "n")
                for i, (a, _) in enumerate(parts)
            ],
        ]
        for step in steps if sum_first else steps[::-1]:
            step()
        results.append(structure([whole]))
    assert results[0] == results[1]


@st.composite
def systems(draw):
    """Axes of a few sizes, equations between products, sums and sections of them, and an order."""
    sizes = draw(st.lists(st.sampled_from([2, 3, 4, 6, 8, 12]), min_size=3, max_size=6))
    pick = st.integers(0, len(sizes) - 1)
    equations = []
    for _ in range(draw(st.integers(2, 5))):
        kind = draw(st.sampled_from(["product", "sum", "section", "same"]))
        equations.append((kind, draw(pick), draw(pick), draw(pick)))
    return sizes, equations, draw(st.permutations(range(len(equations))))


def solve(sizes, equations, order) -> list[tuple] | None:
    axes = [Axis(size, f"a{i}") for i, size in enumerate(sizes)]
    try:
        for i in order:
            kind, x, y, z = equations[i]
            a, b, c = ((axes[n],) for n in (x, y, z))
            if kind == "product" and sizes[x] == sizes[y] * sizes[z]:
                unify(a, (*b, *c), "n")
            elif kind == "sum" and sizes[x] == sizes[y] + sizes[z]:
                unify(a, concatenate([b, c], "n"), "n")
            elif kind == "section" and sizes[x] > sizes[y]:
                unify(section(a, 0, sizes[y], "n"), b, "n")
            elif kind == "same" and sizes[x] == sizes[y]:
                unify(a, b, "n")
    except JobFault as fault:
        assert fault.code == "EV211"
        return None
    assert [axis.size for axis in axes] == sizes
    return structure([(axis,) for axis in axes])


@quick
@given(systems())
def test_a_system_has_one_solution_or_none_in_any_order(case):
    sizes, equations, order = case
    assert solve(sizes, equations, range(len(equations))) == solve(sizes, equations, order)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_system_of_a_product_and_a_sum(order):
    """12 = 3 x 4 and 12 = 4 + 8: so 3 = 1 + 2 and 8 = 2 x 4. With 3 + 9 it is 4 that is a sum."""
    equations = [("product", 0, 1, 2), ("sum", 0, 2, 3)]
    four, two = (0, 4), (1, 2)
    twelve, three, eight = ((four,), (two, four)), ((), (two,)), ((two, four),)
    assert solve([12, 3, 4, 8], equations, order) == [twelve, three, ((four,),), eight]
    equations = [("product", 0, 1, 2), ("sum", 0, 1, 3)]
    two = (0, 2)
    four = ((), (two,), ())
    assert solve([12, 3, 4, 9], equations, order) == [
        ((), (two,), (), (two, four)),
        ((), (two,)),
        four,
        ((), (two, four)),
    ]
    equations = [("product", 0, 1, 2), ("product", 0, 2, 1)]
    assert solve([12, 3, 4], equations, order) is None


@quick
@given(groupings(), st.data())
def test_a_new_size_reaches_every_product(case, data):
    atoms, views, _ = case
    terms = products(atoms, views)
    for left, right in pairwise(terms):
        unify(left, right, "n")
    leaf = data.draw(st.sampled_from(expand(terms[0])))
    leaf.size = data.draw(st.integers(1, 9))
    for term in terms:
        for axis in term:
            assert axis.size == prod(atom.size for atom in expand((axis,)))
    assert len({size_of(term) for term in terms}) == 1


@pytest.mark.parametrize("sizes", [(4, 6), (6, 10), (9, 6)])
def test_borders_that_do_not_divide_have_no_solution(sizes):
    a, b = sizes
    with pytest.raises(JobFault):
        unify((Axis(a, "n"), Axis(b, "n")), (Axis(b, "n"), Axis(a, "n")), "n")
