"""Blocks of four-bit weights in ONNX Runtime: the same numbers, by the kernel for four bits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.quantised import rounds_activations
from edgevlm.compiler.weights import WeightWriter, save_graph
from edgevlm.passes.quantize.quantize_dynamically import QuantizeDynamically
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.ort.int4_dialect import as_nbits
from edgevlm.runtimes.ort.runtime import open_part

RNG = np.random.default_rng(0)
TEXT = """(float[1,7,96] x) => (float[1,7,80] y, float[1,7,80] z, float[1,7,96] u) {
    y = MatMul(x, w) z = MatMul(x, v) t = Tanh(y) u = MatMul(t, o) }"""
W, V = (RNG.normal(size=(96, 80)).astype(np.float32) for _ in "wv")
OUT = RNG.normal(size=(80, 96)).astype(np.float32)
X = RNG.normal(size=(1, 7, 96)).astype(np.float32)


def quantised(graph, solo, block=32, dynamic=False, **options):
    step = QuantizeWeights(min_elements=1, bits=4, block=block, method="mse", **options)
    model = step(solo(graph(TEXT, w=W, v=V, o=OUT))).model
    return (QuantizeDynamically()(model).model if dynamic else model).parts["vision"]


def ran(part, tmp_path, int8=False):
    with WeightWriter(tmp_path) as writer:
        save_graph(part, tmp_path / "part.onnx", writer)
    settings = {"threads": 1, "int8": int8}
    return open_part(tmp_path / "part.onnx", settings).run(None, {"x": X})


def kinds(part):
    return Counter(node.op_type for node in part.graph)


@pytest.mark.parametrize("block", [16, 32, 64, 128])  # 80 and 96 are not whole blocks of 64
def test_it_is_what_the_graph_computes(graph, solo, tmp_path, block):
    part = quantised(graph, solo, block)
    wanted = open_session(part).run(None, {"x": X})
    written = as_nbits(part)
    assert kinds(written)["MatMulNBits"] == (3 if block < 80 else 0)  # a block of all is a channel
    for a, b in zip(wanted, ran(written, tmp_path), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)
    assert kinds(part)["MatMulNBits"] == 0, "the part it was given stays"


def test_weights_stay_four_bits_in_the_file(graph, solo, tmp_path):
    written = as_nbits(quantised(graph, solo))
    stored = [v.const_value for v in written.graph.initializers.values()]
    assert (
        sum(t.nbytes for t in stored if t.dtype.name == "UINT8")
        == (W.size + V.size + OUT.size + 16 * 96) // 2
    )
    assert not kinds(written)["DequantizeLinear"]


def test_inputs_rounded_by_the_block_are_rounded_by_the_kernel(graph, solo, tmp_path):
    """80 inputs are not whole blocks of 32: that product stays one of float inputs."""
    part = quantised(graph, solo, dynamic=True)
    assert kinds(part)["QuantizeLinear"] == 1 and rounds_activations(part)
    written = as_nbits(part)
    assert not rounds_activations(written)
    levels = [
        n.attributes.get_int("accuracy_level", 0)
        for n in written.graph
        if n.op_type == "MatMulNBits"
    ]
    assert levels == [4, 4, 1]
    exact = open_session(quantised(graph, solo)).run(None, {"x": X})
    wanted, found = open_session(part).run(None, {"x": X}), ran(written, tmp_path)
    for a, b, c in zip(exact, wanted, found, strict=True):
        assert measure(b, c, "").sqnr_db > 50 > measure(a, b, "").sqnr_db > 30


@pytest.mark.parametrize("options", [{"block": 20}, {"block": 0}, {"block": 32, "bits": 8}])
def test_other_weights_are_left_as_they_are(graph, solo, options):
    step = QuantizeWeights(**({"min_elements": 1, "bits": 4} | options))
    part = step(solo(graph(TEXT, w=W, v=V, o=OUT))).model.parts["vision"]
    assert as_nbits(part) is part


def test_the_kernel_is_still_there_when_the_optimiser_is_done(graph, solo, tmp_path):
    with WeightWriter(tmp_path) as writer:
        save_graph(as_nbits(quantised(graph, solo)), tmp_path / "part.onnx", writer)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(tmp_path / "part.onnx"), options)
    found = Counter(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert found["MatMulNBits"] == 3 and not found["MatMul"]
