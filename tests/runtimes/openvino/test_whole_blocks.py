"""Blocks that do not divide the inputs: cut, OpenVINO reads them (the rest: tests/compiler)."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.whole_blocks import whole_blocks
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part

RNG = np.random.default_rng(0)
TEXT = """(float[1,7,100] x) => (float[1,7,96] y, float[1,7,96] z) {
    [a] y = MatMul(x, w) [b] z = MatMul(x, w) }"""
W = RNG.normal(size=(100, 96)).astype(np.float32)
X = RNG.normal(size=(1, 7, 100)).astype(np.float32)


def model_of(graph, solo, block):
    return QuantizeWeights(min_elements=1, bits=4, block=block)(solo(graph(TEXT, w=W))).model


@pytest.mark.parametrize(("block", "products"), [(32, 4), (64, 4), (100, 2), (128, 2)])
def test_the_same_numbers(graph, solo, ort, saved, block, products):
    part = model_of(graph, solo, block).parts["vision"]
    written = whole_blocks(part)
    assert sum(n.op_type == "MatMul" for n in written.graph) == products
    assert (written is part) == (block >= 100)
    wanted = ort(part, x=X)
    found = OpenPart(compile_part(saved(written), {"threads": 1})).run([X])
    for name, value in zip("yz", found, strict=True):
        assert measure(wanted[name], value, name).sqnr_db > 100
