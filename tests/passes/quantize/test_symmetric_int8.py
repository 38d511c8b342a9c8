"""The formula: s = max|W| / 127 a channel, q = round(W / s) in [-127, 127], |W - s q| <= s / 2."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgevlm.passes.quantize.grids import Grid
from edgevlm.passes.quantize.rounding import to_nearest

WEIGHTS = array_shapes(min_dims=2, max_dims=4, max_side=5).flatmap(
    lambda shape: st.tuples(
        arrays(np.float32, shape, elements=st.floats(-(2.0**120), 2.0**120, width=32)),
        st.integers(0, len(shape) - 1),
    )
)


def symmetric_int8(weight, axis):
    """(int8 of the weight's shape, float32 scale a channel) as the pass makes them."""
    first = np.moveaxis(weight, axis, 0)
    found = to_nearest(first.reshape(len(first), -1), Grid(8), 0, "max")
    q = np.moveaxis(found.codes.reshape(first.shape), 0, axis)
    return q.astype(np.int8), found.scales[:, 0].astype(np.float32)


def along(scale, weight, axis):
    return scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])


@given(WEIGHTS)
def test_every_number_is_within_half_a_step(case):
    weight, axis = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q, scale = symmetric_int8(weight, axis)
    assert q.dtype == np.int8 and q.shape == weight.shape
    assert scale.dtype == np.float32 and scale.shape == (weight.shape[axis],)
    assert q.min() >= -127 and (scale > 0).all() and np.isfinite(scale).all()
    s = along(scale.astype(np.float64), weight, axis)
    assert (np.abs(weight.astype(np.float64) - s * q) <= s / 2 * (1 + 1e-6)).all()


@given(WEIGHTS)
def test_the_largest_of_a_channel_uses_the_whole_range(case):
    weight, axis = case
    q, scale = symmetric_int8(weight, axis)
    top = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(1)
    used = np.abs(np.moveaxis(q, axis, 0).astype(int).reshape(len(top), -1)).max(1)
    normal = top > 127 * np.finfo(np.float32).tiny
    assert (used[normal] == 127).all() and (used[top == 0] == 0).all()
    np.testing.assert_allclose(scale[normal], top[normal] / 127, rtol=1e-6)
    assert (scale[top == 0] == 1).all()


@given(WEIGHTS)
def test_minus_the_weights_are_minus_the_integers(case):
    weight, axis = case
    (q, scale), (minus, same) = symmetric_int8(weight, axis), symmetric_int8(-weight, axis)
    assert np.array_equal(minus, -q) and np.array_equal(scale, same)


@given(WEIGHTS)
def test_quantising_what_was_quantised_changes_nothing(case):
    weight, axis = case
    q, scale = symmetric_int8(weight, axis)
    again, _ = symmetric_int8(q.astype(np.float32) * along(scale, weight, axis), axis)
    assert np.array_equal(again, q)


@pytest.mark.parametrize("value", [1e-45, 1e-42, 1e-40, 1e-38, 3.4e38])
def test_channels_at_the_edge_of_float32(value):
    """max / 127 is no number of full precision any more below 1.5e-36, and 0 below 9e-44."""
    weight = np.float32(value) * np.array([[1, 0.5, -1, 0.25]], np.float32)
    q, scale = symmetric_int8(weight, 0)
    error = np.abs(weight.astype(np.float64) - scale.astype(np.float64)[:, None] * q)
    assert (error <= scale[:, None] / 2 * (1 + 1e-6)).all()


def test_by_hand():
    weight = np.array([[127, -63.5, 0.4], [0, 0, 0], [-2.54, 1.27, 0.03]], np.float32)
    q, scale = symmetric_int8(weight, 0)
    assert q.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 64, 2]] or q[0, 1] in (-63, -64)
    np.testing.assert_allclose(scale, [1, 1, 0.02], rtol=1e-6)
