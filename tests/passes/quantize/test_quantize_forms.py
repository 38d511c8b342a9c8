"""Each form a weight comes in, against numpy's own dequantised weight, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.executor import open_session
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def coarse(weight, axis):
    """The definition, in numpy."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    return np.rint(weight.astype(np.float64) / scale).astype(np.float32) * scale


def text(x, y, node):
    kind = "int64" if x.startswith("i") else "float"
    return f"({kind}{x.removeprefix('i')} x) => (float{y} y) {{ [n] y = {node} }}"


W, C, T = normal(48, 40), normal(24, 6, 3, 3), normal(60, 32)
BOTH = "Gemm<transA = 1, transB = 1, alpha = 0.5>(x, w)"
STRIDED = "Conv<group = 2, pads = [1,1,1,1], strides = [2,2]>(x, w)"
FORMS = {
    "MatMul": (text("[2,7,48]", "[2,7,40]", "MatMul(x, w)"), W, 1, {}),
    "Gemm": (text("[7,48]", "[7,40]", "Gemm(x, w, b)"), W, 1, {"b": normal(40)}),
    "Gemm, transposed": (
        text("[7,40]", "[7,48]", "Gemm<transB = 1>(x, w, b)"), W, 0, {"b": normal(48)}),
    "Gemm, all attributes": (text("[40,7]", "[7,48]", BOTH), W, 0, {}),
    "Conv": (text("[1,6,8,8]", "[1,24,6,6]", "Conv(x, w, b)"), C, 0, {"b": normal(24)}),
    "Conv, grouped": (text("[1,12,8,8]", "[1,24,4,4]", STRIDED), C, 0, {}),
    "Conv, 1-D": (text("[1,24,9]", "[1,40,7]", "Conv(x, w)"), normal(40, 24, 3), 0, {}),
    "Gather [T]": (text("i[7]", "[7,32]", "Gather(w, x)"), T, 0, {}),
    "Gather [1,T]": (text("i[1,7]", "[1,7,32]", "Gather<axis = 0>(w, x)"), T, 0, {}),
    "Gather [1,1,T]": (text("i[1,1,7]", "[1,1,7,32]", "Gather(w, x)"), T, 0, {}),
}  # fmt: skip


def feed(part):
    value = part.graph.inputs[0]
    shape = [int(d) for d in value.shape]
    return {"x": RNG.integers(0, 60, shape) if value.dtype.name == "INT64" else normal(*shape)}


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_with_the_dequantised_weight(graph, solo, ort, form):
    body, weight, axis, more = FORMS[form]
    part = graph(body, w=weight, **more)
    feeds = feed(part)
    result = QuantizeWeights(min_elements=1)(solo(part))
    after = result.model.parts["vision"]
    want = ort(graph(body, w=coarse(weight, axis), **more), **feeds)["y"]
    np.testing.assert_allclose(ort(after, **feeds)["y"], want, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(ort(part, **feeds)["y"], want)
    assert [(n.kind, n.why) for n in result.notes] == [("matched", "1 weights to int8 (max)")]
    stored = {name: v.const_value.numpy() for name, v in after.graph.initializers.items()}
    integers = [a for a in stored.values() if a.dtype == np.int8]
    assert len(integers) == 1 and integers[0].shape == weight.shape and integers[0].min() >= -127
    assert not any(a.shape == weight.shape and a.dtype == np.float32 for a in stored.values())


@pytest.mark.parametrize("form", FORMS)
def test_no_zero_point_and_the_axis_has_as_many_channels_as_scales(graph, solo, form):
    body, weight, _, more = FORMS[form]
    after = QuantizeWeights(min_elements=1)(solo(graph(body, w=weight, **more))).model.parts[
        "vision"
    ]
    nodes = [n for n in after.graph if n.op_type == "DequantizeLinear"]
    assert len(nodes) == 1 and len(nodes[0].inputs) == 2
    data, scale = nodes[0].inputs
    axis = nodes[0].attributes["axis"].as_int()
    assert data.shape[axis] == scale.shape[0] and len(scale.shape) == 1
    assert [v.name for v in after.graph.outputs] == ["y"]


@pytest.mark.parametrize("form", FORMS)
def test_a_second_time_there_is_nothing_left(graph, solo, form):
    body, weight, _, more = FORMS[form]
    step = QuantizeWeights(min_elements=1)
    once = step(solo(graph(body, w=weight, **more))).model
    again = step(once)
    assert not again.changed and again.model.parts == once.parts and again.notes == ()


ODD = {number: np.where(W > 2, number, W) for number in (np.nan, np.inf)}
TWO = "(float[7,48] x, float[48,40] z) => (float[7,40] y) { c = Neg(z) [n] y = Gemm(x, c) }"
SKIPPED = {
    "a table by columns": (text("i[1,7]", "[60,1,7]", "Gather<axis = 1>(w, x)"), T, "axis 1"),
    "a table of rank 3": (text("i[7]", "[7,4,8]", "Gather(w, x)"), normal(60, 4, 8), "rank 3"),
    "one row": (text("i", "[32]", "Gather(w, x)"), T, "scalar"),
    "a batch of ids": (text("i[2,7]", "[2,7,32]", "Gather(w, x)"), T, "batch"),
    "a batch of matrices": (text("[2,7,8]", "[2,7,5]", "MatMul(x, w)"), normal(2, 8, 5), "rank 3"),
    "a weight on the left": (text("[48,7]", "[40,7]", "MatMul(w, x)"), normal(40, 48), "left"),
    "a weight that is computed": (TWO, None, "computed"),
    "half precision": (
        "(float16[7,48] x) => (float16[7,40] y) { [n] y = MatMul(x, w) }",
        W.astype(np.float16), "FLOAT16"),
    "not a number": (text("[7,48]", "[7,40]", "MatMul(x, w)"), ODD[np.nan], "finite"),
    "infinite": (text("[7,48]", "[7,40]", "MatMul(x, w)"), ODD[np.inf], "finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_skipped_is_told_and_stays_valid(graph, solo, case):
    body, weight, word = SKIPPED[case]
    part = graph(body, **({} if weight is None else {"w": weight}))
    result = QuantizeWeights(min_elements=1)(solo(part))
    assert not result.changed and result.model.parts["vision"] is part
    assert [(n.kind, n.where) for n in result.notes] == [("skipped", "vision/n")]
    assert word in result.notes[0].why
    open_session(part)


def test_what_is_no_weight_is_not_worth_a_word(graph, solo):
    body = """(float[2,7,48] x, float[2,48,7] z, int64[7] i)
        => (float[2,7,7] y, float[2,7,48] g, int64[7] h) {
        y = MatMul(x, z) g = Gather<axis = 1>(x, i) h = Gather(t, i) }"""
    result = QuantizeWeights(min_elements=1)(solo(graph(body, t=np.arange(60))))
    assert not result.changed and result.notes == ()
