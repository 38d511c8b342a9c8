"""Bytes of a package changed at random: it is told in three lines, or does no harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

X = np.arange(20, dtype=np.float32).reshape(4, 5)
WEIGHT = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
FILES = ("model.mlmodel", "weights/weight.bin")


@pytest.fixture(scope="module")
def package(emit) -> Path:
    return emit(lambda mb, x: mb.relu(x=mb.linear(x=x, weight=WEIGHT)), {"x": X})


@pytest.fixture(scope="module")
def good(package, tmp_path_factory) -> Path:
    return Path(shutil.copytree(package, tmp_path_factory.mktemp("good") / "m.mlpackage"))


def data(package: Path, name: str) -> Path:
    return package / "Data" / "com.apple.CoreML" / name


@settings(max_examples=400)
@given(
    spots=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    file=st.sampled_from(FILES),
)
def test_whatever_is_flipped_is_told_or_harmless(good, package, spots, file):
    spoiled = bytearray(data(good, file).read_bytes())
    for share, byte in spots:
        spoiled[int(share * (len(spoiled) - 1))] = byte
    for name in FILES:
        shutil.copy(data(good, name), data(package, name))
    data(package, file).write_bytes(spoiled)
    try:
        program = MilProgram(package)
        for name, function in program.functions.items():
            program.call(name, dict.fromkeys(function.inputs, X))
    except JobFault as fault:
        assert fault.code in ("EV303", "EV304", "EV307")
