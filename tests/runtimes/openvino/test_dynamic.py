"""Scales of run time in OpenVINO: the plugin rounds in groups, close to what the graph says."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault
from edgevlm.passes.quantize.quantize_dynamically import QuantizeDynamically
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.openvino.dynamic import by_group
from edgevlm.runtimes.openvino.open_part import OpenPart, compile_part

RNG = np.random.default_rng(0)
W = {n: RNG.normal(size=(128, 96)).astype(np.float32) for n in "wv"}
TEXT = """(float[1,7,128] x) => (float[1,7,96] y, float[1,7,96] z) {
    [a] y = MatMul(x, w) [b] z = MatMul(x, v) }"""
X = RNG.normal(size=(1, 7, 128)).astype(np.float32)


def quantised(graph, solo, **options):
    model = QuantizeWeights(min_elements=1, bits=4, **options)(solo(graph(TEXT, **W))).model
    return QuantizeDynamically()(model).model.parts["vision"]


@pytest.mark.parametrize("block", [32, 64])
def test_the_plugin_rounds_as_the_graph_says(graph, solo, ort, saved, block):
    part = quantised(graph, solo, block=block)
    written, group = by_group(part)
    assert group == block and not any(n.op_type == "QuantizeLinear" for n in written.graph)
    found, plain = (
        OpenPart(compile_part(saved(written), {"threads": 1, "group": g})).run([X])[0]
        for g in (group, 0)
    )
    wanted = ort(part, x=X)["y"]
    assert measure(wanted, found, "").sqnr_db > 35
    assert 30 < measure(plain, found, "").sqnr_db < 60, "it did round"


def test_a_part_without_is_itself(graph, solo):
    part = QuantizeWeights(min_elements=1)(solo(graph(TEXT, **W))).model.parts["vision"]
    assert by_group(part) == (part, 0)


def test_two_sizes_in_one_part_are_refused(graph, solo):
    part = quantised(graph, solo, block=32, layers=[{"match": "*/b", "block": 64}])
    with pytest.raises(JobFault) as caught:
        by_group(part)
    assert caught.value.code == "EV303" and "32, 64" in caught.value.why
