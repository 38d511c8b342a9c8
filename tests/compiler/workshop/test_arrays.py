"""Arrays in a file: as they were, and nothing but numbers."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.workshop.arrays import read_arrays, write_arrays

ARRAYS = hnp.arrays(
    st.sampled_from(["?", "i1", "<i8", "<f2", "<f4"]), hnp.array_shapes(min_dims=0, min_side=0)
)


@given(st.dictionaries(st.sampled_from(["0.0", "file", "a b", "qdq.1.0"]), ARRAYS))
def test_what_was_written_is_read(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_objects_and_text_are_not_written(tmp_path):
    for array in (np.array([object()]), np.array(["a"])):
        with pytest.raises(TypeError, match="array 'a' is"):
            write_arrays(tmp_path / "a.npz", {"a": array})


class Bomb:
    def __reduce__(self) -> tuple:
        return print, ("unpickled",)


def npz(member: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", member)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 and no more",
        pickle.dumps(Bomb()),
        npz(npy(np.array([Bomb()], dtype=object))),
        npz(pickle.dumps(Bomb())),
        npz(npy(np.array(["text"]))),
        npz(npy(np.arange(100))[:-20]),
        npy(np.arange(3)),
    ],
)
def test_a_file_that_is_none_is_refused_and_nothing_is_unpickled(tmp_path, capsys, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(JobFault, match=r"EV373 the arrays in a.npz cannot be read"):
        read_arrays(tmp_path / "a.npz")
    assert capsys.readouterr().out == ""


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(JobFault, match=r"EV373 .*No such file"):
        read_arrays(tmp_path / "a.npz")
