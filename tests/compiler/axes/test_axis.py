"""The algebra of axes: products, union-find, names and pins."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgevlm.compiler.axes.axis import (
    Axis,
    expand,
    fresh_term,
    label,
    pin,
    size_of,
    stronger,
)
from edgevlm.compiler.axes.equations import factor, parts_of, unify
from edgevlm.compiler.errors import JobFault


def axes(*sizes: int) -> list[Axis]:
    return [Axis(size, f"origin{i}") for i, size in enumerate(sizes)]


def sizes_of(terms) -> list[int]:
    return [size_of(term) for term in terms]


def test_one_element_is_the_empty_product():
    assert fresh_term(1, "n") == ()
    assert size_of(()) == 1 and expand(()) == [] and parts_of(()) == [()]


def test_equal_atoms_become_one_axis():
    a, b = axes(6, 6)
    unify((a,), (b,), "n")
    assert a.root is b.root
    a.size = 4
    assert b.size == 4


def test_a_product_meets_an_atom():
    a, h, w = axes(12, 3, 4)
    unify((a,), (h, w), "n")
    assert expand((a,)) == [h.root, w.root]
    h.size = 2
    assert a.size == 8


def test_products_with_other_borders_are_cut_to_the_common_ones():
    a, b, c, d = axes(6, 4, 2, 12)  # 6 x 4 = 2 x 12 = 2 x 3 x 4
    unify((a, b), (c, d), "n")
    assert [x.size for x in expand((a, b))] == [2, 3, 4]
    assert expand((a, b)) == expand((c, d))


def test_an_axis_that_occurs_on_both_sides():
    # (x, y) = (y, x) with y = 2 x 2 has one solution: y is x twice
    x, y = axes(2, 4)
    unify((x, y), (y, x), "n")
    assert expand((y,)) == [x.root, x.root]
    x.size = 3
    assert y.size == 9


def test_an_axis_that_occurs_twice_on_one_side():
    x, p, q = axes(4, 2, 8)
    unify((x, x), (p, q), "n")
    first, second = expand((x,))
    assert expand((p, q)) == [first, second, first, second]
    first.size = 5
    assert (p.size, q.size, x.size) == (5, 2 * 5 * 2, 10)


def test_products_without_common_borders_have_no_solution():
    a, b, c, d = axes(4, 6, 6, 4)
    with pytest.raises(JobFault) as caught:
        unify((a, b), (c, d), "the_node")
    assert caught.value.code == "EV211" and "the_node" in caught.value.what


def test_different_sizes_never_meet():
    with pytest.raises(JobFault, match=r"dimensions of 6 .* and 5 .* elements meet") as caught:
        unify((Axis(6, "a"),), (Axis(5, "b"),), "the_node")
    assert "the_node" in caught.value.what


def test_factor_twice_is_one_equation():
    (a,) = axes(24)
    outer, inner = factor(a, 4, "n")
    coarse, fine = factor(a, 2, "n")
    assert [x.size for x in expand((a,))] == [2, 2, 6]
    assert expand((outer, inner)) == expand((coarse, fine)) == expand((a,))


def test_factor_needs_a_divisor():
    with pytest.raises(JobFault, match="would have to split as 5 x") as caught:
        factor(Axis(12, "weights"), 5, "the_node")
    assert "the_node" in caught.value.what and "weights" in caught.value.why


def test_pins_reach_the_pieces_of_what_is_pinned():
    (a,) = axes(12)
    pin((a,), "conv", "a window slides over it")
    for piece in factor(a, 3, "n"):
        assert piece.pinned == ("conv", "a window slides over it")


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_stronger_name_wins_in_either_order(order):
    a, b = axes(8, 8)
    label((a,), "channel")
    label((b,), "head_dim")
    pair = {"a": (a,), "b": (b,)}
    unify(pair[order[0]], pair[order[1]], "n")
    assert a.root.label == b.root.label == "head_dim"


def test_names_have_one_order():
    weak_to_strong = [None, "pixel", "hidden", "channel", "batch", "kv", "token", "frame", "head"]
    for weak, strong in pairwise(weak_to_strong):
        assert stronger(weak, strong) == stronger(strong, weak) == strong
    assert stronger("of the caller", "class") == "of the caller"


def test_long_chains_stay_fast_and_shallow():
    chain = axes(*[4] * 5000)
    for left, right in pairwise(chain):
        unify((right,), (left,), "n")
    assert len({axis.root for axis in chain}) == 1
