"""Attention written out, run by OpenVINO; and why what is not plain is left to its own reading."""

from __future__ import annotations

from collections import Counter

import numpy as np

from edgevlm.compiler.attention import grouped_attention

Q, K, V = "float[1,4,6,8] q", "float[1,2,6,8] k", "float[1,2,6,8] v"


def ops(part) -> Counter:
    return Counter(node.op_type for node in part.graph)


def feeds_of(part, seed=0):
    rng = np.random.default_rng(seed)
    return {str(v.name): rng.normal(size=tuple(v.shape)).astype(np.float32)
            for v in part.graph.inputs if v.dtype.name == "FLOAT"}  # fmt: skip


def test_openvino_computes_the_same(graph, ort, run_openvino):
    """More rows than a block has, and three heads a group."""
    part = graph(
        "(float[1,6,300,16] q, float[1,2,300,16] k, float[1,2,300,16] v) => "
        "(float[1,6,300,16] y) { y = Attention <is_causal=1> (q, k, v) }"
    )
    feeds = feeds_of(part)
    written = grouped_attention(part)
    assert ops(written)["Softmax"] == 2
    wanted = ort(part, **feeds)["y"]
    for given_part in (part, written):
        np.testing.assert_allclose(run_openvino(given_part, feeds)["y"], wanted, atol=1e-5)


def test_a_row_that_sees_nothing_is_zeros_where_masks_are_computed(graph, ort, run_openvino):
    """Why those are left: OpenVINO's own reading of Attention keeps that law of ONNX Runtime's."""
    part = graph(
        f"({Q}, {K}, {V}, bool[1,1,6,6] m) => (float[1,4,6,8] y) "
        "{ n = Not(m) y = Attention (q, k, v, n) }"
    )
    hidden = np.zeros((1, 1, 6, 6), bool)
    hidden[0, 0, 2] = True
    feeds = feeds_of(part) | {"m": hidden}
    wanted = ort(part, **feeds)["y"]
    assert not wanted[0, :, 2].any() and wanted[0, :, 1].any()
    np.testing.assert_allclose(run_openvino(grouped_attention(part), feeds)["y"], wanted, atol=1e-5)
