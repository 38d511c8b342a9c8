"""Names in a program are numbered; everything else is left as it is."""

from __future__ import annotations

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.runtimes.coreai import steady
from edgevlm.runtimes.coreai.asset import PROGRAM
from edgevlm.runtimes.coreai.steady import name_steadily

OURS = ["vision", "cache_position", "add_position", "sdpaabc_abcdefgh", "resource_x", ""]


@given(st.integers(0, 2**63 - 1), st.binary(max_size=4))
def test_numbers_of_any_size_are_read_as_they_are_written(number, behind):
    data = steady._varint(number)
    assert steady._varint_in(data + behind, 0) == (number, len(data))
    assert len(data) == max(1, -(-number.bit_length() // 7)) if number < 2**56 else 9


def written(names: list[str], before: bytes = b"weights") -> bytes:
    """A program of three sections, as the page on the format has them (synthetic)."""
    body = steady._written([name.encode() for name in names])
    sections = ((5, before), (0, body), (8, b"properties"))
    data = b"".join(bytes([i]) + steady._varint(len(b)) + b for i, b in sections)
    return steady.MAGIC + steady._varint(6) + b"MLIR\0" + data


def drawn(seed: int) -> list[str]:
    rng = random.Random(seed)
    letters = "".join(rng.choices(string.ascii_lowercase, k=8))
    return [f"resource_{rng.getrandbits(rng.choice((20, 64)))}", f"layer_norm_{letters}", *OURS]


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 300))
def test_what_was_drawn_makes_no_difference(one, two, more):
    """Nor do lengths of names, which change how many bytes a length takes."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        found = []
        for seed in (one, two):
            path = Path(folder) / str(len(found))
            path.write_bytes(written(drawn(seed) + [f"name{i}" for i in range(more)]))
            name_steadily(path)
            found.append(path.read_bytes())
    assert found[0] == found[1]
    names = ["resource_0", "layer_norm_1", *OURS, *(f"name{i}" for i in range(more))]
    assert found[0] == written(names)


def test_a_program_of_core_ai_has_no_drawn_names_left(plain, tmp_path):
    data = (plain.folder / "coreai" / "model.aimodel" / PROGRAM).read_bytes()
    names = set(re.findall(rb"(?:resource|sdpa|rms_norm|layer_norm)_\w+", data))
    assert len(names) > 20 and all(re.fullmatch(rb"\w+_\d{1,4}", name) for name in names), names
    path = tmp_path / PROGRAM
    path.write_bytes(data)
    name_steadily(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "data",
    [b"", b"ML", b"PK\3\4", steady.MAGIC, steady.MAGIC + b"\r", written(["a"])[:20]],
    ids=["empty", "short", "zip", "nothing behind", "no producer", "cut"],
)
def test_what_is_no_program_is_told(data, tmp_path):
    path = tmp_path / PROGRAM
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"it (is no|ends|has no)"):
        name_steadily(path)
    assert path.read_bytes() == data
