"""Types of a graph rewritten: ports, forms of ops that ask for care, scales, and random graphs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.precision.stays import Why
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 8)).astype(np.float32)
W = RNG.normal(size=(8, 8)).astype(np.float32)


def part_of(result):
    return result.model.parts["vision"]


def near(ort, part, result, atol=4e-3, **feeds):
    for name, wanted in ort(part, **feeds).items():
        found = ort(part_of(result), **feeds)[name]
        np.testing.assert_allclose(found, wanted, atol=atol, rtol=4e-3, err_msg=name)


def test_ports_keep_their_types_also_where_they_are_read_inside(graph, halved, kinds, ort):
    part = graph(
        "(float[2,8] x) => (float[2,8] a, float[2,8] y) { [n] a = Neg(x) [t] y = Tanh(a) }"
    )
    result = halved(part, {"x": X})
    assert kinds(result)["t"] == kinds(result)["n"] == "FLOAT16"
    assert Counter(n.op_type for n in part_of(result).graph)["Cast"] == 3, "in, and out twice"
    near(ort, part, result, x=X)


def test_an_output_may_be_an_input_or_all_but_one(graph, halved, ort):
    part = graph("(float[2,8] x) => (float[2,8] x, float[2,8] y) { [same] y = Identity(x) }")
    result = halved(part, {"x": X})
    near(ort, part, result, x=X)
    assert np.array_equal(ort(part_of(result), x=X)["x"], X), "nothing rounds what is handed on"


def test_a_name_that_is_taken_is_not_given_again(graph, halved, ort):
    part = graph(
        "(float[2,8] x) => (float[2,8] y) { [n] z = Neg(x) [t] y = Tanh(z) }",
    )
    part.graph.node(0).outputs[0].name = "y/inner"
    result = halved(part, {"x": X})
    names = [str(v.name) for n in part_of(result).graph for v in n.outputs]
    assert len(names) == len(set(names)) and "y/inner/inner" in names
    near(ort, part, result, x=X)


@pytest.mark.parametrize(
    ("body", "arrays"),
    [
        ("[r] y = Resize<mode = \"linear\">(x, , scales)",
         {"scales": np.float32([1, 1, 2, 2])}),
        ("[r] y = Resize<mode = \"cubic\", coordinate_transformation_mode = \"align_corners\">"
         "(x, , , sizes)", {"sizes": np.array([1, 1, 4, 6])}),
    ],
    ids=["scales", "sizes"],
)  # fmt: skip
def test_scales_of_a_resize_stay_float(graph, halved, kinds, ort, body, arrays):
    part = graph(f"(float[1,1,2,3] x) => (float[1,1,4,6] y) {{ {body} }}", **arrays)
    feed = {"x": RNG.normal(size=(1, 1, 2, 3)).astype(np.float32)}
    result = halved(part, feed)
    assert kinds(result)["r"] == "FLOAT16"
    node = next(n for n in part_of(result).graph if n.op_type == "Resize")
    assert node.inputs[0].dtype == HALF
    assert all(v.dtype == FLOAT for v in node.inputs[2:3] if v is not None)
    near(ort, part, result, **feed)


def test_numbers_that_are_made_from_integers_are_half_at_once(graph, halved, kinds, ort):
    part = graph(
        """(int64[2,8] i, float[2,8] x) => (float[2,8] y) { [cast] f = Cast<to = 1>(i)
        [like] g = CastLike(i, x) [fill] c = ConstantOfShape<value = float[1] {-2.5}>(shape)
        [zero] z = ConstantOfShape(shape) [sum] y = Sum(f, g, c, z) }""",
        shape=np.array([2, 8]),
    )
    feed = {"i": np.arange(16).reshape(2, 8), "x": X}
    result = halved(part, feed)
    assert set(kinds(result)[n] for n in ("cast", "like", "fill", "zero", "sum")) == {"FLOAT16"}
    near(ort, part, result, **feed)


def test_a_node_of_float16_that_stays_float_is_all_float(graph, halved, ort):
    """With the mean, which ONNX has in float32 alone."""
    part = graph(
        """(float[2,8] x) => (float[2,8] y) { [c] a = Cast<to = 10>(x)
        [norm] b, m = LayerNormalization(a, s) [n] d = Neg(b) [f] e = Cast<to = 1>(d)
        [out] y = Add(e, m) }""",
        s=np.linspace(1, 2, 8, dtype=np.float16),
    )  # fmt: skip
    result = halved(part, {"x": X})
    node = next(n for n in part_of(result).graph if n.op_type == "LayerNormalization")
    assert [v.dtype for v in (*node.inputs, *node.outputs[:2])] == [FLOAT] * 4
    onnx.checker.check_model(ir.to_proto(part_of(result)), full_check=True)
    mean, spread = X.mean(1, keepdims=True), X.std(1, keepdims=True)
    wanted = mean - (X - mean) / np.sqrt(spread**2 + 1e-5) * np.linspace(1, 2, 8)
    np.testing.assert_allclose(ort(part_of(result), x=X)["y"], wanted, atol=8e-3)


def test_a_body_that_reads_from_outside_keeps_its_types(graph, halved):
    part = graph(
        """(bool b, float[2,8] x) => (float[2,8] y, float[2,8] z) { [n] a = Neg(x) [t] z = Tanh(a)
        [if] y = If(b) <then_branch = g1 () => (float[2,8] p) { p = Exp(a) },
            else_branch = g2 () => (float[2,8] q) { q = Identity(a) }> }"""
    )
    result = halved(part)
    assert ("vision: if", f"float32: {Why.OP.value}") in [(n.where, n.why) for n in result.notes]
    onnx.checker.check_model(ir.to_proto(part_of(result)), full_check=True)
    inner = {n.inputs[0].dtype for g in part_of(result).graphs() for n in g if n.op_type == "Exp"}
    assert inner == {FLOAT}


def test_weights_that_two_nodes_read_are_stored_once_a_type(graph, halved, ort):
    text = """(float[2,8] x, float[2,8] r) => (float[2,8] y, float[2,8] z) {
        [a] p = MatMul(x, w) [b] y = MatMul(p, w) [c] z = MatMul(r, w) }"""
    part = graph(text, w=W)
    stored = {size: halved(part, {"x": X, "r": X * np.float32(size)}) for size in (1, 1e5)}
    kinds = {
        size: Counter(v.dtype for v in part_of(result).graph.initializers.values())
        for size, result in stored.items()
    }
    assert kinds == {1: {HALF: 1}, 1e5: {HALF: 1, FLOAT: 1}}
    near(ort, part, stored[1e5], atol=0.05, x=X, r=X * np.float32(1e5))


def test_a_scale_that_float16_has_not_keeps_its_product_float_and_says_so(
    graph, solo, halved, kinds, told, ort
):
    """Codes times 1e-7 are numbers that float16 has with two digits or none."""
    text = """(float[2,8] x) => (float[2,8] y, float[2,8] z) {
        [small] y = MatMul(x, w) [large] z = MatMul(x, v) }"""
    part = graph(text, w=W * np.float32(1e-5), v=W)
    quantised = QuantizeWeights(min_elements=1)(solo(part)).model.parts["vision"]
    feed = {"x": X}
    result = halved(quantised, feed)
    ((where, why),) = told(result)
    assert "small" in where and "large" not in where and why.endswith(Why.CONSTANT.value)
    assert (kinds(result)["small"], kinds(result)["large"]) == ("FLOAT", "FLOAT16")
    wanted, found = ort(quantised, **feed), ort(part_of(result), **feed)
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["z"], wanted["z"], rtol=0, atol=0.03)
    scales = {n.inputs[1].dtype for n in part_of(result).graph if n.op_type == "DequantizeLinear"}
    assert scales == {FLOAT, HALF}


SHAPES = {"Add": (2, ""), "Mul": (2, ""), "MatMul": (1, ", w"), "LayerNormalization": (1, ", s, b")}


@st.composite
def graphs(draw):
    """Text of a graph [3,8], what it is fed, and how large that is."""
    known, lines = ["x0", "x1"], []
    for i in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(sorted(SHAPES)))
        count, more = SHAPES[op]
        picked = ", ".join(draw(st.sampled_from(known)) for _ in range(count))
        lines.append(f"[n{i}] v{i} = {op}({picked}{more})")
        known.append(f"v{i}")
    outs = draw(st.lists(st.sampled_from(known[2:]), min_size=1, max_size=3, unique=True))
    ports = ", ".join(f"float[3,8] {name}" for name in outs)
    text = f"(float[3,8] x0, float[3,8] x1) => ({ports}) {{ {' '.join(lines)} }}"
    return text, draw(st.integers(0, 99)), draw(st.sampled_from([1.0, 30.0, 1e4]))


@settings(max_examples=60)
@given(graphs())
def test_any_graph_is_of_one_type_and_as_near_as_float16(graph, halved, ort, case):
    text, seed, size = case
    rng = np.random.default_rng(seed)
    arrays = {"w": np.abs(W) / 4, "s": np.ones(8, np.float32), "b": np.ones(8, np.float32) * 3}
    used = {name: array for name, array in arrays.items() if f", {name}" in text}
    part = graph(text, **used)
    feed = {f"x{i}": (rng.uniform(0.5, 1.5, (3, 8)) * size).astype(np.float32) for i in range(2)}
    result = halved(part, feed)
    made = part_of(result)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    wanted, found = ort(part, **feed), ort(made, **feed)
    for name, array in wanted.items():
        top = np.abs(array).max()
        if np.isfinite(top):
            assert np.abs(found[name] - array).max() <= 0.05 * top + 1e-3, name
    again = halved(made, feed)
    assert not again.changed and part_of(again) is made
