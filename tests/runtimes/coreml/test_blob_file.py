"""weight.bin, read by us, against coremltools' own writer and reader; and laws of bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.blob_file import BLOB_TYPES, BlobFile, unpacked
from edgevlm.runtimes.coreml.mil_types import MIL_TYPES, TensorType, Unreadable

NAMED = {type_.name: type_ for type_ in MIL_TYPES.values()}
#: name of a type -> what coremltools calls it
CALLED = {"fp32": "float", "fp16": "fp16"}


@pytest.mark.parametrize("name", sorted(BLOB_TYPES.values()))
@pytest.mark.parametrize("count", [1, 7, 64, 129])
def test_what_coremltools_writes(name, count, tools, tmp_path):
    from coremltools.libmilstoragepython import _BlobStorageReader, _BlobStorageWriter

    type_ = NAMED[name]
    rng = np.random.default_rng(count)
    if type_.kind == "float":
        numbers = rng.normal(size=count).astype(type_.numpy)
    else:
        numbers = rng.integers(type_.low, type_.high, count, endpoint=True)
        numbers = numbers.astype(type_.numpy or ("int8" if type_.low < 0 else "uint8"))
    path, called = tmp_path / "weight.bin", CALLED.get(name, name)
    writer = _BlobStorageWriter(str(path))
    first = writer.write_float_data(np.ones(3, np.float32))
    given_ = numbers.view(np.uint16) if name == "fp16" else numbers
    offset = getattr(writer, f"write_{called}_data")(given_)
    del writer
    found = BlobFile(path).tensor(offset, TensorType(type_, (count,)))
    assert first == 64 and offset == 192
    np.testing.assert_array_equal(found, numbers)
    theirs = getattr(_BlobStorageReader(str(path)), f"read_{called}_data")(offset)
    np.testing.assert_array_equal(np.asarray(theirs)[:count], given_)


@given(
    bits=st.sampled_from([1, 2, 3, 4, 6]),
    numbers=st.lists(st.integers(0, 63), min_size=1, max_size=40),
)
def test_numbers_of_a_few_bits_come_back(bits, numbers):
    """Written as one long number, the first in its lowest bits."""
    numbers = [n % 2**bits for n in numbers]
    whole = sum(n << (i * bits) for i, n in enumerate(numbers))
    data = whole.to_bytes(-(-len(numbers) * bits // 8), "little")
    type_ = TensorType(NAMED[f"uint{bits}"], (len(numbers),))
    assert unpacked(np.frombuffer(data, np.uint8), type_).tolist() == numbers


def test_negative_numbers_of_four_bits():
    data = np.array([0x8F, 0x70], np.uint8)
    assert unpacked(data, TensorType(NAMED["int4"], (2, 2))).tolist() == [[-1, -8], [0, 7]]


def test_bytes_that_are_too_few_or_too_many():
    for count in (2, 4):
        with pytest.raises(Unreadable, match=f"{count} bytes for uint4"):
            unpacked(np.zeros(count, np.uint8), TensorType(NAMED["uint4"], (5,)))
