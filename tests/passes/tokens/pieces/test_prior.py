"""A prior from a file: what is read, and that nothing else in a file does anything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevlm.compiler.errors import UsageFault
from edgevlm.passes.tokens.pieces.prior import read_prior


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (print, ("opened",))


def saved(array, **more):
    return lambda path: np.save(path, array, **more)


def headed(text, version=1):
    """A .npy whose header is whatever it is."""
    head = text.encode().ljust(117) + b"\n"
    magic = b"\x93NUMPY" + bytes([version, 0]) + len(head).to_bytes(2, "little")
    return lambda path: path.write_bytes(magic + head + b"\0" * 64)


def described(shape, descr="'<f4'"):
    return headed(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


HOSTILE = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "Error"),
    "text": (lambda path: path.write_text("0.5 " * 16), "magic"),
    "pickled": (saved(np.array([Bomb()] * 16, dtype=object), allow_pickle=True), "object"),
    "raw pickle": (lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n."), "magic"),
    "several arrays": (lambda path: np.savez(path.open("wb"), a=np.zeros(16)), "magic"),
    "too few": (saved(np.zeros(15)), "not 16 numbers"),
    "too many": (saved(np.zeros(17)), "not 16 numbers"),
    "two dimensions": (saved(np.zeros((4, 4))), "not 16 numbers"),
    "no dimension": (saved(np.float64(1)), "not 16 numbers"),
    "complex": (saved(np.zeros(16, complex)), "not 16 numbers"),
    "words": (saved(np.array(["a"] * 16)), "not 16 numbers"),
    "fields": (saved(np.zeros(16, [("a", "f4")])), "not 16 numbers"),
    "true or false": (saved(np.zeros(16, bool)), "not 16 numbers"),
    "nan": (saved(np.where(np.arange(16) == 3, np.nan, 0)), "not finite"),
    "inf": (saved(np.where(np.arange(16) == 3, -np.inf, 0)), "not finite"),
    "large": (lambda path: path.write_bytes(b"\0" * (8 * 2**20 + 1)), "at most"),
    "cut off": (described("(17,)"), "."),
    "claims too much": (described("(99999999999999,)"), "."),
    "claims more than there is": (described("(9223372036854775807, 9)"), "."),
    "negative": (described("(-16,)"), "."),
    "no type": (described("(16,)", "'nothing'"), "."),
    "a call": (headed("__import__('os').system('true')"), "."),
    "brackets": (headed("[" * 100), "."),
    "indents": (headed("  a\n b\n"), "."),
    "bytes": (headed("\0\1\2"), "."),
    "a later version": (headed("{}", version=9), "."),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_are_no_prior(tmp_path, kind, capsys):
    make, why = HOSTILE[kind]
    path = tmp_path / "prior.npy"
    make(path)
    with pytest.raises(UsageFault, match=why) as caught:
        read_prior(str(path), 16)
    assert caught.value.code == "EV202" and "numpy.save" in caught.value.fix
    assert "opened" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\0b", "x" * 1000, "", ".", "/dev/zero", "/dev/stdin"])
def test_names_that_are_no_file(name):
    with pytest.raises(UsageFault) as caught:
        read_prior(name, 16)
    assert caught.value.code == "EV202" and len(caught.value.what) < 220


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_are_anything_else_than_refused(tmp_path_factory, content, magic):
    path = tmp_path_factory.getbasetemp() / "bytes.npy"
    start = b"\x93NUMPY\x01\x00" if magic else b""
    path.write_bytes(start + content)
    with pytest.raises(UsageFault):
        read_prior(str(path), 16)


numbers = st.one_of(*(hnp.from_dtype(np.dtype(d), allow_nan=False, allow_infinity=False)
                      for d in ("f4", "f8", "i8", "u1")))  # fmt: skip


@given(st.lists(numbers, min_size=1, max_size=20))
def test_it_is_min_maxed(tmp_path_factory, values):
    array = np.array(values, np.float64)
    path = tmp_path_factory.getbasetemp() / "numbers.npy"
    np.save(path, array)
    prior = read_prior(str(path), len(array))
    assert prior.dtype == np.float32 and prior.shape == array.shape
    assert prior.min() == 0 and (prior.max() == 1 or np.ptp(array) == 0)
    order = np.argsort(array, kind="stable")
    assert (np.diff(prior[order]) >= 0).all()


@pytest.mark.parametrize("most", [1.7e308, 1e-320])
def test_numbers_at_the_ends_of_float64(tmp_path, most):
    np.save(tmp_path / "p.npy", np.array([most, -most, 0]))
    assert read_prior(str(tmp_path / "p.npy"), 3).tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "<i4", "u1"])
def test_numbers_of_every_kind(tmp_path, dtype):
    np.save(tmp_path / "p.npy", np.array([2, 6, 4], dtype))
    assert read_prior(str(tmp_path / "p.npy"), 3).tolist() == [0, 1, 0.5]
