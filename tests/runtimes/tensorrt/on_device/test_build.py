"""Engines of real TensorRT-RTX, and its refusals word for word."""

from __future__ import annotations

import numpy as np
import pytest
from micro.typed import Typed, block, one_op

from edgevlm.runtimes.tensorrt.on_device.build import build_part


def test_a_block_is_built(built):
    one = built()
    assert one.ok and one.engine_bytes > 100_000 and one.network_layers > 40
    assert one.refusals == [] and one.parse_s > 0 and one.build_s > 0


def test_its_products_are_known_by_name(built):
    told = built().products
    assert told.gemm >= {"to_q", "to_k", "to_v", "to_out", "up", "down", "scores", "mix"}
    assert len(told.gemm) == 8 and told.conv == set()


def refusal(path, rtx, gpu="SM86"):
    tried = build_part(path, rtx, compute_capability=gpu)
    assert not tried.ok and tried.engine_bytes == 0 and tried.rows == []
    return tried.refusals[0]


def test_a_zero_point_is_refused_with_its_node(tmp_path, rtx):
    told = refusal(block(tmp_path / "z.onnx", "int8-zero-point"), rtx)
    assert (told.stage, told.op) == ("parse", "QuantizeLinear") and told.node
    assert "Non-zero zero point is not supported" in told.text


def test_an_op_without_a_kernel_is_refused_with_its_node(tmp_path, rtx):
    told = refusal(one_op(tmp_path / "n.onnx", "NonZero", (4, 4)), rtx)
    assert (told.stage, told.node, told.op) == ("parse", "the_NonZero", "NonZero")


def test_fp8_is_refused_where_the_gpu_has_none(tmp_path, rtx):
    pytest.importorskip("ml_dtypes")
    told = refusal(block(tmp_path / "f.onnx", "fp8"), rtx)
    assert told.stage == "build" and "fp8_e4m3" in told.text and len(told.text) <= 410


def test_mixed_types_are_refused(tmp_path, rtx):
    g = Typed("fp16")
    g.op("Add", "x", g.const(np.zeros(4, np.float32)), name="mixed")
    g.nodes[-1].output[0] = "y"
    port = (g.kind, (1, 4))
    told = refusal(g.save(tmp_path / "m.onnx", {"x": port}, {"y": port}), rtx)
    assert "mixed" in told.node and "same input types" in told.text


def test_a_file_that_is_no_onnx_is_a_refusal_too(tmp_path, rtx):
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf at all")
    assert refusal(tmp_path / "broken.onnx", rtx).text
    assert refusal(tmp_path / "missing.onnx", rtx).text


def open_rows(path):
    """x [rows,4] with rows left open."""
    g = Typed("fp32")
    g.op("MatMul", "x", g.const(g.weights(4, 4)))
    g.nodes[-1].output[0] = "y"
    return g.save(path, {"x": (g.kind, ("rows", 4))}, {"y": (g.kind, ("rows", 4))})


def test_open_sizes_need_a_profile(tmp_path, rtx):
    path = open_rows(tmp_path / "open.onnx")
    assert "profile" in refusal(path, rtx).text
    profile = {"x": [[1, 4], [8, 4], [16, 4]]}
    assert build_part(path, rtx, compute_capability="SM86", profile=profile).ok


def test_a_gpu_that_rtx_does_not_know_is_a_wrong_call(tmp_path, rtx):
    with pytest.raises(ValueError, match="not SM87"):
        build_part(open_rows(tmp_path / "o.onnx"), rtx, compute_capability="SM87")


def test_rtx_keeps_no_timing_cache(tmp_path, rtx):
    cache = tmp_path / "cache"
    profile = {"x": [[1, 4], [8, 4], [16, 4]]}
    options = {"compute_capability": "SM86", "profile": profile, "timing_cache": cache}
    assert build_part(open_rows(tmp_path / "o.onnx"), rtx, **options).ok and not cache.exists()
