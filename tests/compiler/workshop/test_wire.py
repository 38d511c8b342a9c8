"""Frames: what was written is read, and what is none is refused."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.compiler.workshop.wire import BrokenFrame, decode, encode

DTYPES = st.sampled_from(["?", "i1", "u1", "<i2", ">i4", "<u4", "<i8", "<u8", "<f2", "<f4", ">f8"])
ARRAYS = st.dictionaries(
    st.text(max_size=9),
    DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))),
    max_size=4,
)


def reader(data: bytes):
    stream = io.BytesIO(data)

    def read(size: int) -> bytearray:
        got = bytearray(stream.read(size))
        assert len(got) == size, "read past the end"
        return got

    return read


@given(ARRAYS, st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9)))
def test_a_frame_is_read_as_it_was_written(arrays, head):
    data = b"".join(encode(head, arrays))
    read = reader(data + b"rest")
    found_head, found = decode(read)
    assert found_head == head and list(found) == list(arrays) and read(4) == b"rest"
    for name, array in arrays.items():
        assert (
            found[name].dtype == array.dtype.newbyteorder("<") and found[name].shape == array.shape
        )
        np.testing.assert_array_equal(found[name], array)


@given(hnp.arrays("f4", (3, 4)))
def test_a_view_is_sent_as_what_it_shows(array):
    for view in (array.T, array[::2], array[:, ::-1]):
        _, found = decode(reader(b"".join(encode({}, {"a": view}))))
        np.testing.assert_array_equal(found["a"], view)


@pytest.mark.parametrize(
    "array", [np.array([None]), np.array(["a"]), np.array([1j]), np.zeros(1, "M8[s]")]
)
def test_what_is_no_number_is_not_sent(array):
    with pytest.raises(TypeError, match="not carried"):
        encode({}, {"a": array})


def framed(told: object, rest: bytes = b"") -> bytes:
    text = json.dumps(told).encode()
    return struct.pack("<4sQ", b"EVW1", len(text)) + text + rest


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<4sQ", b"EVW2", 2) + b"{}",
        struct.pack("<4sQ", b"EVW1", 2**40) + b"{}",
        struct.pack("<4sQ", b"EVW1", 2) + b"{]",
        struct.pack("<4sQ", b"EVW1", 2) + b"\xff\xff",
        framed([]),
        framed({"head": 1, "arrays": []}),
        framed({"head": {}, "arrays": 3}),
        framed({"head": {}, "arrays": [["a", "<f4"]]}),
        framed({"head": {}, "arrays": [["a", "O", [1]]]}, b"x" * 8),
        framed({"head": {}, "arrays": [["a", "V8", [1]]]}, b"x" * 8),
        framed({"head": {}, "arrays": [["a", "nonsense", [1]]]}),
        framed({"head": {}, "arrays": [["a", "<f4", [-1]]]}),
        framed({"head": {}, "arrays": [["a", "<f4", [True]]]}),
        framed({"head": {}, "arrays": [["a", "<f4", [2.0]]]}),
        framed({"head": {}, "arrays": [["a", "<f4", [2**40]]]}),
        framed({"head": {}, "arrays": [["a", "<f4", [2**20, 2**20, 0, 2**62]]]})[:20] + b"{" * 90,
        struct.pack("<4sQ", b"EVW1", 60000) + b"[" * 60000,
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(BrokenFrame):
        decode(reader(data))
