"""Every refusal twice: in our words, before any tool runs, and as the real parser or builder says.

The wrong axis is the one that no parser refuses: it builds, and the integer products are gone.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from micro.typed import Typed, block
from onnx import TensorProto

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.legalise import legalise_part
from edgevlm.compiler.shapes import infer_shapes
from edgevlm.devices import find_device
from edgevlm.runtimes.tensorrt.aim import aim_at
from edgevlm.runtimes.tensorrt.on_device.build import build_part
from edgevlm.runtimes.tensorrt.on_device.kernels import summary
from edgevlm.runtimes.tensorrt.refusals import refuse
from edgevlm.runtimes.tensorrt.written import capabilities_of

ORIN = aim_at(find_device("jetson"), None)
THOR = aim_at(find_device("thor"), None)


def loaded(path) -> ir.Model:
    """As a part is: with the shape and type of every value."""
    part = ir.load(path)
    infer_shapes(part)
    return part


def ours(path, aim=ORIN) -> str:
    """What the legaliser says of a file; it says something."""
    part = loaded(path)
    onnx.checker.check_model(str(path))  # the file is good ONNX: it is the target that is not
    with pytest.raises(JobFault) as fault:
        legalise_part("vision", part, "TensorRT", capabilities_of(aim))
        refuse("vision", part, aim)
    assert fault.value.code == "EV303" and fault.value.fix
    return f"{fault.value.what}: {fault.value.why}"


def theirs(path, rtx, gpu="SM86") -> str:
    tried = build_part(path, rtx, compute_capability=gpu)
    assert tried.refusals, "the real tool takes it"
    return tried.refusals[0].text


def test_nothing_is_said_of_what_is_right(tmp_path, rtx):
    for scheme in (None, "int8", "int4"):
        path = block(tmp_path / "right.onnx", scheme)
        refuse("vision", loaded(path), ORIN)
        assert build_part(path, rtx, compute_capability="SM86").ok


def test_scales_along_the_inputs(tmp_path, rtx):
    """They build, and not one integer product is left."""
    path = block(tmp_path / "axis.onnx", "int8-wrong-axis")
    assert "scales of its weights are one an input; its products would run in float" in ours(path)
    wrong = build_part(path, rtx, compute_capability="SM86")
    right = build_part(block(tmp_path / "r.onnx", "int8"), rtx, compute_capability="SM86")
    assert wrong.ok and right.ok
    assert summary(right.rows, right.products)["int8_gemm"] == 6
    assert summary(wrong.rows, wrong.products)["int8_gemm"] == 0


def test_a_zero_point(tmp_path, rtx):
    path = block(tmp_path / "zero.onnx", "int8-zero-point")
    assert "its zero point is INT8 and not zero; scales alone are taken" in ours(path)
    assert "Non-zero zero point is not supported" in theirs(path, rtx)


def test_fp8_on_an_orin(tmp_path, rtx):
    path = block(tmp_path / "fp8.onnx", "fp8")
    assert "Orin (sm_87) multiplies no FLOAT8E4M3FN" in ours(path)
    assert "fp8_e4m3" in theirs(path, rtx)
    refuse("vision", loaded(path), THOR)
    assert build_part(path, rtx, compute_capability="SM120").ok


def topk(path, k: int):
    g = Typed("fp32")
    g.op("TopK", "x", g.const(np.array([k])), name="best")
    g.nodes[-1].output[:] = ["v", "i"]
    port = (g.kind, (1, 5000))
    found = {"v": (g.kind, (1, k)), "i": (TensorProto.INT64, (1, k))}
    return g.save(path, {"x": port}, found)


def test_more_than_3840_of_topk(tmp_path, rtx):
    path = topk(tmp_path / "many.onnx", 3841)
    assert "node best cannot be lowered: k of TopK is 3841, the most is 3840" in ours(path)
    assert "3840" in theirs(path, rtx)
    most = topk(tmp_path / "most.onnx", 3840)
    refuse("vision", loaded(most), ORIN)
    assert build_part(most, rtx, compute_capability="SM86").ok


def test_a_k_that_is_computed(tmp_path):
    g = Typed("fp32")
    g.op("TopK", "x", "k", name="best")
    g.nodes[-1].output[:] = ["v", "i"]
    ports = {"x": (g.kind, (1, 10)), "k": (TensorProto.INT64, (1,))}
    outs = {"v": (g.kind, (1, None)), "i": (TensorProto.INT64, (1, None))}
    assert "k of TopK is computed" in ours(g.save(tmp_path / "k.onnx", ports, outs))


def test_as_many_rows_as_are_found(tmp_path, rtx):
    g = Typed("fp32")
    g.op("NonZero", "x", name="found")
    g.nodes[-1].output[0] = "y"
    found = {"y": (TensorProto.INT64, (2, "as many"))}
    path = g.save(tmp_path / "found.onnx", {"x": (g.kind, (4, 4))}, found)
    assert "gives as many rows as it finds; TopK and Gather keep a fixed number" in ours(path)
    assert theirs(path, rtx)


def test_a_size_without_a_profile(tmp_path, rtx):
    g = Typed("fp32")
    g.op("Relu", "x", name="r")
    g.nodes[-1].output[0] = "y"
    path = g.save(tmp_path / "open.onnx", {"x": (g.kind, ("n", 4))}, {"y": (g.kind, ("n", 4))})
    assert "no optimisation profile says how far it goes" in ours(path)
    assert "profile" in theirs(path, rtx)


def test_two_types_at_one_node(tmp_path, rtx):
    """Only a checker that is asked to looks at types; ONNX itself reads the file."""
    g = Typed("fp16")
    g.op("Add", "x", g.const(np.zeros(4, np.float32)), name="mixed")
    g.nodes[-1].output[0] = "y"
    path = g.save(tmp_path / "two.onnx", {"x": (g.kind, (1, 4))}, {"y": (g.kind, (1, 4))})
    said = ours(path)
    assert "node mixed" in said and "FLOAT16 and" in said and "inserts no casts" in said
    assert "same input types" in theirs(path, rtx)


def test_the_op_attention_of_a_decode_step(tmp_path, rtx):
    g = Typed("fp16")
    g.op("Attention", "q", "k", "v", "mask", name="step")
    g.nodes[-1].output[0] = "y"
    ports = {"q": (g.kind, (1, 2, 1, 32)), "mask": (TensorProto.BOOL, (1, 1, 1, 64))}
    ports |= {name: (g.kind, (1, 2, 64, 32)) for name in ("k", "v")}
    path = g.save(tmp_path / "a.onnx", ports, {"y": (g.kind, (1, 2, 1, 32))}, opset=23)
    assert "op ai.onnx::Attention is not among those checked" in ours(path)
    assert "Attention operation was not supported by a dedicated kernel" in theirs(path, rtx)


def linear(path, scale, *, computed=False, **attributes):
    g = Typed("fp16")
    zero = g.const(np.zeros(np.shape(scale), np.int8))
    wired = ["s" if computed else g.const(np.array(scale, g.np)), zero]
    g.op("QuantizeLinear", "x", *wired, name="rounds", **attributes)
    g.op("DequantizeLinear", "v0", *wired, name="real", **attributes)
    g.nodes[-1].output[0] = "y"
    ports = {"x": (g.kind, (1, 4))} | ({"s": (g.kind, ())} if computed else {})
    return g.save(path, ports, {"y": (g.kind, (1, 4))})


def test_a_scale_that_is_zero(tmp_path, rtx):
    path = linear(tmp_path / "s.onnx", 0.0)
    assert "a scale of it is not above zero" in ours(path)
    assert "positive" in theirs(path, rtx)


def test_a_scale_of_run_time(tmp_path):
    """NVIDIA's header has it for the releases below 10.13; the RTX of our tests is newer."""
    path = linear(tmp_path / "s.onnx", 0.0, computed=True)
    assert "its scale is computed while the part runs" in ours(path)


def test_a_scale_a_channel_of_what_is_computed(tmp_path):
    """NVIDIA's header has it; RTX takes it."""
    path = linear(tmp_path / "s.onnx", [0.1, 0.2, 0.3, 0.4], axis=1)
    assert "it rounds what is computed by a scale a channel" in ours(path)


def test_a_short_block(tmp_path, rtx):
    """12 inputs in blocks of 8: the second one is short."""
    g = Typed("fp16")
    codes = g.raw(TensorProto.INT4, bytes(24), (12, 4))
    real = g.op("DequantizeLinear", codes, g.const(np.ones((2, 4), g.np)), axis=0, block_size=8)
    g.op("MatMul", "x", real, name="product")
    g.nodes[-1].output[0] = "y"
    good = {"x": (g.kind, (1, 12))}, {"y": (g.kind, (1, 4))}
    path = g.save(tmp_path / "b.onnx", *good)
    graph = loaded(path)
    scale = next(n for n in graph.graph if n.op_type == "DequantizeLinear").inputs[1]
    assert tuple(scale.shape) == (2, 4)
    refuse("vision", graph, ORIN)  # 12 in 2 are blocks of 6, as the parser reads it
    g = Typed("fp16")
    codes = g.raw(TensorProto.INT4, bytes(24), (12, 4))
    real = g.op("DequantizeLinear", codes, g.const(np.ones((5, 4), g.np)), axis=0, block_size=3)
    g.op("MatMul", "x", real, name="product")
    g.nodes[-1].output[0] = "y"
    path = g.save(tmp_path / "c.onnx", *good)
    with pytest.raises(JobFault, match="blocks divide"):
        refuse("vision", loaded(path), ORIN)
    assert "block" in theirs(path, rtx).lower()


def test_blocks_of_int8(tmp_path):
    g = Typed("fp16")
    wired = [g.const(np.ones((8, 4), np.int8)), g.const(np.ones((2, 4), g.np))]
    g.op("MatMul", "x", g.op("DequantizeLinear", *wired, axis=0, block_size=4), name="product")
    g.nodes[-1].output[0] = "y"
    ports = {"x": (g.kind, (1, 8))}, {"y": (g.kind, (1, 4))}
    assert "blocks of INT8; TensorRT has blocks of int4 alone" in ours(
        g.save(tmp_path / "b.onnx", *ports)
    )


def test_a_resize_that_smooths(tmp_path, rtx):
    g = Typed("fp32")
    sizes = g.const(np.array([1, 1, 4, 4]))
    g.op("Resize", "x", "", "", sizes, name="small", mode="linear", antialias=1)
    g.nodes[-1].output[0] = "y"
    ports = {"x": (g.kind, (1, 1, 8, 8))}, {"y": (g.kind, (1, 1, 4, 4))}
    path = g.save(tmp_path / "r.onnx", *ports)
    assert "antialias" in ours(path)
    assert theirs(path, rtx)
