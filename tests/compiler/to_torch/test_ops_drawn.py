"""Laws of indices, drawn: whatever ONNX allows, torch gives what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

ENDS = st.one_of(st.integers(-9, 9), st.sampled_from([2**63 - 1, -(2**63)]))


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@settings(max_examples=60)
@given(start=ENDS, end=ENDS, step=st.integers(1, 4), axis=st.integers(-3, 2))
def test_slices(start, end, step, axis, graph_of, equal):
    part = graph_of(
        "float[3,4,5] x",
        "y = Slice(x, a, b, c, d)",
        {"a": ints(start), "b": ints(end), "c": ints(axis), "d": ints(step)},
    )
    equal(part, {"x": numbers(3, 4, 5)})


@settings(max_examples=40)
@given(
    axis=st.integers(-2, 1),
    index=st.lists(st.integers(-3, 2), min_size=1, max_size=6),
    data=st.data(),
)
def test_gathers_by_stored_and_by_computed_places(axis, index, data, graph_of, equal):
    """Places are of one or two axes, or one number."""
    shape = data.draw(st.sampled_from([(len(index),), (1, len(index)), (len(index), 1)]))
    at = np.array(index, np.int64).reshape(shape)
    dims = ",".join(map(str, shape))
    stored = graph_of("float[3,3] x", f"y = Gather<axis = {axis}>(x, i)", {"i": at})
    equal(stored, {"x": numbers(3, 3)})
    fed = graph_of(f"float[3,3] x, int64[{dims}] i", f"y = Gather<axis = {axis}>(x, i)", {})
    equal(fed, {"x": numbers(3, 3), "i": at})


@settings(max_examples=40)
@given(
    x=st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, np.inf, -np.inf]), min_size=6, max_size=6),
    count=st.integers(1, 6),
    largest=st.booleans(),
)
def test_of_equal_numbers_the_first_is_taken(x, count, largest, graph_of, equal):
    part = graph_of(
        "float[6] x",
        f"y, z = TopK<largest = {int(largest)}>(x, k); w = ArgMax(x)",
        {"k": ints(count)},
    )
    equal(part, {"x": np.array(x, np.float32)})


@settings(max_examples=40)
@given(sizes=st.permutations([2, 3, 4]), order=st.permutations([0, 1, 2]), open_=st.integers(0, 3))
def test_reshapes_of_what_was_turned(sizes, order, open_, graph_of, equal):
    target = [-1 if i == open_ else n for i, n in enumerate(sizes)]
    part = graph_of(
        "float[4,2,3] x",
        f"t = Transpose<perm = {list(order)}>(x); y = Reshape(t, s)",
        {"s": ints(*target)},
    )
    equal(part, {"x": numbers(4, 2, 3)})
