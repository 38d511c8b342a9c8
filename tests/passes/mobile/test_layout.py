"""Views written as steps of at most four axes, and the fewest transposes there are."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.mobile.layout import plan
from edgevlm.passes.mobile.turns import MAX_AXES, fewest
from edgevlm.passes.mobile.view import View


def done(steps, array: np.ndarray) -> np.ndarray:
    """The steps, in numpy; no tensor on the way may have more than four axes."""
    for op, to in steps:
        match op:
            case "Slice":
                axis, start, stop = to
                array = array.take(range(start, stop), axis)
            case "Transpose":
                array = array.transpose(to)
            case "Expand":
                array = np.broadcast_to(array, to)
            case _:
                array = array.reshape(to)
        assert array.ndim <= MAX_AXES
    return array


@given(st.permutations(range(6)).flatmap(lambda p: st.tuples(st.just(p), st.integers(2, 6))))
def test_any_order_is_reached(drawn):
    perm, rank = drawn
    perm = [i for i in perm if i < rank]
    shape = [2, 3, 1, 5, 2, 3][:rank]
    array = np.arange(math.prod(shape)).reshape(shape)
    flat = array.transpose(perm).reshape(-1)
    steps = plan(View((View.of(shape).transpose(perm).factors,)), [array.size])
    assert np.array_equal(done(steps, array.reshape(-1)), flat)
    assert sum(op == "Transpose" for op, _ in steps) <= 2


@settings(max_examples=60)
@given(data=st.data())
def test_cut_turned_and_repeated_at_once(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    source = np.arange(math.prod(shape)).reshape(shape)
    array, view = source, View.of(shape)
    for axis, size in enumerate(shape):
        start = data.draw(st.integers(0, size - 1))
        count = data.draw(st.integers(1, size - start))
        array, view = array.take(range(start, start + count), axis), view.pick(axis, start, count)
    perm = data.draw(st.permutations(range(len(shape))))
    array, view = array.transpose(perm), view.transpose(perm)
    place = data.draw(st.integers(0, len(shape)))
    array = np.expand_dims(array, place)
    view = View((*view.dims[:place], (), *view.dims[place:]), view.offset)
    wide = list(array.shape)
    wide[place] = data.draw(st.integers(1, 3))
    array, view = np.broadcast_to(array, wide), view.expand(wide)
    final = [math.prod(wide[: len(wide) // 2]), math.prod(wide[len(wide) // 2 :])]
    view, array = view.reshape(final), array.reshape(final)
    if view is None:
        return
    given_as = [math.prod(shape[:2]), *shape[2:]][:4] if len(shape) < 5 else [source.size]
    steps = plan(view, given_as)
    assert np.array_equal(done(steps, source.reshape(given_as)), array)


def test_tokens_to_heads_is_one_reshape_and_one_transpose():
    view = View.of([1, 16, 3, 8]).transpose([0, 2, 1, 3])
    assert plan(view, [1, 16, 24]) == [("Reshape", (1, 16, 3, 8)), ("Transpose", (0, 2, 1, 3))]
    assert plan(View.of([1, 16, 24]), [1, 16, 24]) == []


def test_a_slice_is_taken_where_the_axis_is():
    view = View.of([1, 16, 72]).pick(2, 24, 24)
    assert plan(view, [1, 16, 72]) == [("Slice", (2, 24, 48))]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_up_to_four_blocks_need_one_transpose_at_most(count):
    for order in permutations(range(count)):
        assert len(fewest(order)) == (order != tuple(range(count)))


def test_the_fewest_are_found():
    """Against a search that knows nothing of blocks: all orders that two turns can reach."""
    for order in permutations(range(5)):
        steps = fewest(order)
        assert len(steps) <= 2
        at = tuple(range(5))
        for blocks, perm in steps:
            assert tuple(run for block in blocks for run in block) == at and len(blocks) <= MAX_AXES
            at = tuple(run for i in perm for run in blocks[i])
        assert at == order
    # 0 2 4 1 3: no two runs stay neighbours, so five axes would be needed at once
    assert len(fewest((1, 3, 0, 4, 2))) == 2 and len(fewest((3, 4, 0, 1, 2))) == 1


def test_what_overlaps_or_has_too_many_runs_is_refused():
    assert plan(View((((3, 2),), ((3, 1),))), [9]) is None  # windows that overlap
    shape = [2] * 9
    assert (
        plan(View((View.of(shape).transpose([8, 6, 4, 2, 0, 7, 5, 3, 1]).factors,)), [512]) is None
    )
