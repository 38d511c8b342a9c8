"""int8 inputs with a scale a block, found while it runs: integer arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.passes.quantize.quantize_dynamically import QuantizeDynamically
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

RNG = np.random.default_rng(0)
W = RNG.normal(size=(48, 10)).astype(np.float32)
TEXT = "(float[1,5,48] x) => (float[1,5,10] y) { y = MatMul(x, w) }"


def quantised(graph, solo, text=TEXT, block=16, **weights):
    step = QuantizeWeights(min_elements=1, bits=4, block=block)
    return QuantizeDynamically()(step(solo(graph(text, **(weights or {"w": W})))).model)


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_sums_within_a_block_are_those_of_integers(graph, solo, ort, size):
    x = (RNG.standard_t(2, size=(1, 5, 48)) * size).astype(np.float32)
    x[0, 2] = 0  # a row of zeros
    x[0, 3, :16] = 0
    found = ort(quantised(graph, solo).model.parts["vision"], x=x)["y"]
    blocks = x.reshape(5, 3, 16).astype(np.float64)
    t = np.abs(blocks).max(-1, keepdims=True) / 127
    q = np.rint(np.divide(blocks, t, out=np.zeros_like(blocks), where=t > 0))
    w = W.reshape(3, 16, 10).astype(np.float64)
    s = np.abs(w).max(1, keepdims=True) / 7
    codes = np.clip(np.rint(w / s), -8, 7)
    wanted = np.einsum("tbk,bkn,tbo,bon->tn", q, codes, t, s)
    np.testing.assert_allclose(found[0], wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
    assert np.isfinite(found).all() and (found[0, 2] == 0).all()


def test_a_shared_value_is_rounded_once_and_once_only(graph, solo):
    text = """(float[1,5,48] x) => (float[1,5,10] y, float[1,5,10] z) {
        y = MatMul(x, w) z = MatMul(x, v) }"""
    result = quantised(graph, solo, text, w=W, v=-W)
    ops = [n.op_type for n in result.model.parts["vision"].graph]
    assert ops.count("QuantizeLinear") == 1 and ops.count("DequantizeLinear") == 4
    assert result.notes[-1].why.startswith("2 products")
    assert not QuantizeDynamically()(result.model).changed


def test_what_is_not_whole_blocks_is_left_and_told(graph, solo):
    result = quantised(graph, solo, block=20)
    assert not result.changed and "not whole blocks of 20" in result.notes[0].why


def test_a_scale_a_channel_is_none_of_its_business(graph, solo):
    assert not quantised(graph, solo, block=0).changed
