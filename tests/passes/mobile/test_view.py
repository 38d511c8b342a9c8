"""A view says where each number of a reshaped, turned or cut tensor lies in its source."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.passes.mobile.view import View, merged


def looked_up(view: View, source: np.ndarray) -> np.ndarray:
    places = np.array(view.offset)
    for dim in view.dims:
        along = np.array([0])
        for size, stride in dim:
            along = (along[:, None] + np.arange(size) * stride).reshape(-1)
        places = places[..., None] + along
    return source.reshape(-1)[places]


def shapes_of(total: int) -> st.SearchStrategy[list[int]]:
    """Every way to write a number of elements as dimensions, ones among them."""

    @st.composite
    def draw_shape(draw):
        shape, left = [], total
        while left > 1:
            size = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
            shape.append(size)
            left //= size
            if len(shape) == 6:
                shape[-1] *= left
                break
        return shape or [1]

    return draw_shape()


@given(data=st.data())
def test_moves_are_numpys(data):
    """Any chain of moves gives what numpy gives; where a view refuses, numpy must copy."""
    shape = data.draw(shapes_of(data.draw(st.sampled_from([1, 6, 12, 24, 36, 60]))))
    source = np.arange(math.prod(shape)).reshape(shape)
    array, view = source, View.of(shape)
    for _ in range(data.draw(st.integers(0, 6))):
        move = data.draw(st.sampled_from(["reshape", "transpose", "pick", "expand", "tile"]))
        if move == "reshape":
            wanted = data.draw(shapes_of(array.size))
            then, view_then = array.reshape(wanted), view.reshape(wanted)
            if view_then is None:
                return  # what numpy would have to copy; test_what_cannot_be has some
        elif move == "transpose":
            perm = data.draw(st.permutations(range(array.ndim)))
            then, view_then = array.transpose(perm), view.transpose(perm)
        elif move == "expand":
            wide = [size if size > 1 else data.draw(st.integers(1, 2)) for size in array.shape]
            wide = [1] * data.draw(st.integers(0, 1)) + wide
            then, view_then = np.broadcast_to(array, wide), view.expand(wide)
            if then.size > 200:
                return
        elif move == "tile":
            many = data.draw(st.lists(st.integers(1, 2), min_size=array.ndim, max_size=array.ndim))
            if array.size * math.prod(many) > 200:
                return
            view_then = view.tile(many)
            then = looked_up(view_then, source)
            assert np.array_equal(then, np.tile(array, many))
        else:
            axis = data.draw(st.integers(0, array.ndim - 1))
            start = data.draw(st.integers(0, array.shape[axis] - 1))
            step = data.draw(st.integers(1, 3))
            most = (array.shape[axis] - 1 - start) // step + 1
            count = data.draw(st.integers(1, most))
            places = start + np.arange(count) * step
            then, view_then = array.take(places, axis), view.pick(axis, start, count, step)
            if view_then is None:
                assert len(view.dims[axis]) > 1  # cut across a dimension of several factors
                return
            then = looked_up(view_then, source)
            assert np.array_equal(then, array.take(places, axis))
        array, view = then, view_then
        assert view.shape == array.shape
        assert np.array_equal(looked_up(view, source), array)


def test_of_a_fused_projection():
    """k of [1,16,72] after Reshape, Transpose and Slice, as in the docstring of the module."""
    view = View.of([1, 16, 72]).reshape([1, 16, 3, 3, 8]).transpose([2, 0, 3, 1, 4])
    k = view.pick(0, 1, 1).reshape([1, 3, 16, 8])
    assert k == View(((), ((3, 8),), ((16, 72),), ((8, 1),)), 24)


def test_what_cannot_be():
    view = View.of([4, 6])
    assert view.reshape([5, 5]) is None and view.reshape([0, 24]) is None
    assert view.transpose([1, 0]).reshape([24]).reshape([4, 6]) is None  # 4 is no part of 6 x 4
    assert view.pick(0, 4, 1) is None and view.pick(0, 3, 2) is None
    assert view.pick(0, 1, 0) is None


def test_neighbours_that_are_one_run_are_one_factor():
    assert merged([(2, 12), (1, 5), (3, 4), (4, 1)]) == ((24, 1),)
    assert merged([(3, 0), (2, 0)]) == ((6, 0),)
    assert merged([(3, 1), (2, 3)]) == ((3, 1), (2, 3))


@pytest.mark.parametrize(("start", "count"), [(0, 3), (3, 3), (4, 1), (1, 2)])
def test_of_a_dimension_of_two_factors_whole_places_or_within_one(start, count):
    array = np.arange(24).reshape(2, 4, 3).transpose(1, 0, 2).reshape(4, 6)
    view = View.of([2, 4, 3]).transpose([1, 0, 2]).reshape([4, 6])
    picked = view.pick(1, start, count)
    assert np.array_equal(looked_up(picked, np.arange(24)), array[:, start : start + count])
    assert view.pick(1, 2, 2) is None
