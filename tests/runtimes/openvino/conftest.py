"""Bundles for OpenVINO, and one graph run by it.

run_openvino(part, feeds)      outputs of an in-memory graph by name, compiled as artifacts are
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.bundle import Bundle
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part


@pytest.fixture(scope="session", autouse=True)
def openvino_is_here():
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed: pip install 'edgevlm[openvino]'")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, compile_tiny) -> Bundle:
    """16 of 64 image tokens, int8 weights."""
    out = tmp_path_factory.mktemp("openvino") / "small"
    return compile_tiny(out, "host-openvino", tokens="16", quant="w8", payoff="none")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, compile_tiny) -> Bundle:
    """As it was trained: float, all tokens."""
    out = tmp_path_factory.mktemp("openvino") / "plain"
    return compile_tiny(out, "host-openvino", payoff="none")


@pytest.fixture(scope="session")
def int8(tmp_path_factory: pytest.TempPathFactory, compile_tiny) -> Bundle:
    """All tokens, int8 weights and activations."""
    out = tmp_path_factory.mktemp("openvino") / "int8"
    return compile_tiny(out, "openvino", quant="w8a8", payoff="none")


@pytest.fixture(scope="session")
def run_openvino(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("graphs")

    def run(part: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        path = folder / "part.onnx"
        ir.save(part, path)
        made = OpenPart(compile_part(path, {"threads": 1}))
        values = made.run([feeds[str(v.name)] for v in part.graph.inputs])
        return dict(zip((str(v.name) for v in part.graph.outputs), values, strict=True))

    return run


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """A graph as a file, alone in a folder."""

    def save(part: ir.Model) -> Path:
        path = tmp_path_factory.mktemp("part") / "part.onnx"
        ir.save(part, path)
        return path

    return save
