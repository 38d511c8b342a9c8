"""The algebra of axes: concatenations and sections, and (a + b) x c = a x c + b x c."""

from __future__ import annotations

import pytest

from edgevlm.compiler.axes.axis import (
    Axis,
    ancestors,
    expand,
    size_of,
)
from edgevlm.compiler.axes.equations import concatenate, factor, parts_of, section, unify
from edgevlm.compiler.errors import JobFault


def axes(*sizes: int) -> list[Axis]:
    return [Axis(size, f"origin{i}") for i, size in enumerate(sizes)]


def sizes_of(terms) -> list[int]:
    return [size_of(term) for term in terms]


def test_concatenation_sums_sizes_and_follows_its_parts():
    a, b = axes(5, 7)
    (total,) = concatenate([(a,), (b,), ()], "n")
    assert total.size == 13 and sizes_of(parts_of((total,))) == [5, 7, 1]
    b.size = 2
    assert total.size == 8


def test_concatenating_one_term_is_that_term():
    a, b = axes(2, 3)
    assert concatenate([(a, b)], "n") == (a, b)


def test_sections_tile_the_whole():
    (a,) = axes(10)
    parts = [section((a,), s, n, "n") for s, n in ((0, 3), (3, 4), (7, 3))]
    assert sizes_of(parts) == [3, 4, 3]
    assert parts_of((a,)) == [tuple(expand(p)) for p in parts]
    parts[1][0].size = 1
    assert a.size == 7


def test_a_section_of_everything_is_the_term_itself():
    a, b = axes(2, 5)
    assert section((a, b), 0, 10, "n") == (a, b)


def test_overlapping_sections_share_their_overlap():
    (a,) = axes(10)
    left, right = section((a,), 0, 6, "n"), section((a,), 4, 6, "n")
    assert sizes_of(parts_of((a,))) == [4, 2, 4]
    overlap = parts_of((a,))[1][0]
    overlap.size = 1
    assert (size_of(left), size_of(right), a.size) == (5, 5, 9)


def test_a_section_of_one_element_has_no_axis():
    (a,) = axes(65)
    assert section((a,), 0, 1, "n") == ()
    (rest,) = section((a,), 1, 64, "n")
    rest.size = 16
    assert a.size == 17


@pytest.mark.parametrize(("start", "length"), [(0, 0), (3, 0), (-1, 2), (8, 3), (0, 11)])
def test_a_section_lies_inside_and_is_not_empty(start, length):
    with pytest.raises(JobFault, match="has no elements") as caught:
        section((Axis(10, "a"),), start, length, "the_node")
    assert "the_node" in caught.value.what


def test_a_product_is_cut_between_its_outer_elements():
    three, width = axes(3, 8)  # q, k, v of one matrix
    query = section((three, width), 0, 8, "n")
    value = section((three, width), 16, 8, "n")
    assert expand(query) == expand(value) == [width]
    assert sizes_of(parts_of((three,))) == [1, 1, 1]


def test_a_product_cut_inside_a_row_is_cut_in_every_row():
    three, width = axes(3, 8)
    taken = section((three, width), 4, 8, "n")
    first, second = (part[0] for part in parts_of((width,)))
    assert sizes_of(parts_of((three, width))) == [4] * 6
    assert [part[0] for part in parts_of(taken)] == [second, first]
    second.size = 1
    assert (width.size, size_of(taken), size_of((three, width))) == (5, 5, 15)


def test_a_sum_is_factored_by_the_distributive_law():
    q, k, v = axes(8, 8, 8)
    (total,) = concatenate([(q,), (k,), (v,)], "n")
    _, inner = factor(total, 3, "n")
    assert expand((q,)) == expand((k,)) == expand((v,)) == [inner.root]
    inner.root.size = 6
    assert total.size == 18 and q.size == k.size == v.size == 6


def test_a_sum_factored_across_a_border_has_the_border_in_every_row():
    """1 + 63 patches as an 8 x 8 grid: a column of the grid is 1 + 7, so no patch goes alone."""
    (patches,) = axes(63)
    (total,) = concatenate([(), (patches,)], "n")
    rows, columns = factor(total, 8, "n")
    assert sizes_of(parts_of((columns,))) == [1, 7] and sizes_of(parts_of((rows,))) == [1, 7]
    seven = parts_of((columns,))[1][0]
    seven.size = 3
    assert (columns.size, patches.size, total.size) == (4, 31, 32)


def test_a_roll_is_a_sum_in_another_order():
    """Swin: a grid of 4 windows of 3 rolled by 1, then cut into windows again."""
    (grid,) = axes(12)
    windows, inside = factor(grid, 4, "n")
    tail, head = section((grid,), 1, 11, "n"), section((grid,), 0, 1, "n")
    (rolled,) = concatenate([tail, head], "n")
    _, rolled_inside = factor(rolled, 4, "n")
    assert sizes_of(parts_of((inside,))) == [1, 2]
    assert sizes_of(parts_of((rolled_inside,))) == [2, 1]
    two = parts_of((inside,))[1][0]
    assert parts_of((rolled_inside,))[0] == (two,)
    two.size = 5
    assert grid.size == rolled.size == 24 and windows.size == 4


def test_factor_and_section_commute():
    (cut_first,), (factored_first,) = axes(8), axes(8)
    section((cut_first,), 0, 4, "n")
    factor(cut_first, 4, "n")
    factor(factored_first, 4, "n")
    section((factored_first,), 0, 4, "n")
    for axis in (cut_first, factored_first):
        assert sizes_of(parts_of((axis,))) == [4, 4]
        outer, inner = expand((axis,))
        assert (outer.size, inner.size) == (4, 2)
        assert sizes_of(parts_of((outer,))) == [2, 2]


def test_sums_that_meet_are_cut_to_the_common_borders():
    a, b, c, d = axes(3, 7, 5, 5)
    left, right = concatenate([(a,), (b,)], "n"), concatenate([(c,), (d,)], "n")
    unify(left, right, "n")
    assert sizes_of(parts_of(left)) == sizes_of(parts_of(right)) == [3, 2, 5]
    a.size = 1
    assert (size_of(left), size_of(right), c.root.size) == (8, 8, 3)


def test_a_sum_that_holds_one_axis_twice_keeps_both_equations():
    # y + y meets p + q + r + s: y = p + q and y = r + s, so p = r and q = s
    (y, p, q, r, s) = axes(5, 2, 3, 2, 3)
    unify(concatenate([(p,), (q,), (r,), (s,)], "n"), concatenate([(y,), (y,)], "n"), "n")
    assert p.root is r.root and q.root is s.root
    p.size = 1
    assert (y.size, r.size) == (4, 1)


def test_sums_of_the_same_axes_in_another_order():
    a, b = axes(2, 6)
    unify(concatenate([(a,), (b,)], "n"), concatenate([(b,), (a,)], "n"), "n")
    assert [part[0].root for part in parts_of((b,))] == [a.root] * 3
    a.size = 3
    assert b.size == 9


def test_a_late_refinement_is_true_everywhere():
    weight, stream = axes(12, 12)
    (total,) = concatenate([(weight,), ()], "n")
    unify((weight,), (stream,), "n")
    head, _ = factor(stream, 3, "n")
    head.size = 2
    assert (weight.size, total.size) == (8, 9)


def test_ancestors_are_the_products_and_sums_above():
    a, b = axes(4, 9)
    product, other = axes(8, 9)
    unify((product,), (a, Axis(2, "n")), "n")
    (total,) = concatenate([(product,), (b,)], "n")
    assert ancestors(a) == {a.root, product.root, total}
    assert other.root not in ancestors(a) and b not in ancestors(a)


def test_hundreds_of_nested_cuts_do_not_exhaust_the_stack():
    (a,) = axes(501)
    for place in range(500):
        section((a,), place, 1, "n")
    assert len(parts_of((a,))) == 501
    nested = (Axis(2, "n"),)
    first = nested[0]
    for _ in range(2000):
        nested = concatenate([nested, ()], "n")
    first.size = 5
    assert size_of(nested) == 2005 and sum(sizes_of(parts_of(nested))) == 2005
    assert len(ancestors(first)) == 2001
