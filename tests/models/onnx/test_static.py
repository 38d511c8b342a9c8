"""Every shape becomes a number; what follows from shapes alone is computed, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from micro.bare import bare_model

from edgevlm.compiler.errors import EdgeError
from edgevlm.models.onnx import static
from edgevlm.models.onnx.read import read_onnx
from edgevlm.models.onnx.static import make_static

ONE_FOLDER = [HealthCheck.function_scoped_fixture]  # each example overwrites the file of the last
X = np.random.default_rng(0).normal(size=(1, 3, 4, 6)).astype(np.float32)


@pytest.fixture
def made_static(write, ort):
    """Text -> the static graph, proved to give the same on a picture of 4 x 6."""

    def make(text: str, opset: int = 17, **arrays):
        path = write(text, opset=opset, **arrays)
        model = read_onnx(path)
        model.graph.inputs[0].shape = type(model.graph.inputs[0].shape)([1, 3, 4, 6])
        before = ort(model, x=X)
        make_static(path, model)
        after = ort(model, x=X)
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value)
        for node in model.graph:
            assert all(isinstance(d, int) for v in node.outputs for d in v.shape)
        return model

    return make


def ops(model):
    return [n.op_type for n in model.graph]


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_a_chain_of_shape_gather_and_reshape_is_one_reshape(made_static, opset):
    text = """(float[B,3,H,W] x) => (float[N,M,K] y) { s = Shape(x) b = Gather<axis = 0>(s, zero)
        h = Gather<axis = 0>(s, two) w = Gather<axis = 0>(s, three) hw = Mul(h, w)
        t = Concat<axis = 0>(b, hw, open) y = Reshape(x, t) }"""
    model = made_static(text, opset, zero=[0], two=[2], three=[3], open=[-1])
    assert ops(model) == ["Reshape"] and list(model.graph.outputs[0].shape) == [1, 24, 3]
    assert len(model.graph.initializers) == 1


@settings(max_examples=30, suppress_health_check=ONE_FOLDER)
@given(st.integers(-6, 6), st.none() | st.integers(-6, 6))
def test_a_piece_of_a_shape_is_that_piece(made_static, start, end):
    """Shape<start, end> clips as Python's slices do."""
    said = f"start = {start}" + (f", end = {end}" if end is not None else "")
    text = f"""(float[B,3,H,W] x) => (float[B,3,H,W] y) {{ s = Shape<{said}>(x)
        t = Concat<axis = 0>(s, one) p = ReduceProd<keepdims = 0>(t) f = Cast<to = 1>(p)
        y = Mul(x, f) }}"""
    assert ops(made_static(text, 17, one=[1])) == ["Mul"]


def test_size_range_and_constant_of_shape_are_computed(made_static):
    text = """(float[B,3,H,W] x) => (float[B,3,H,W] y) { n = Size(x) r = Range(zero, n, one)
        s = Shape(x) g = Reshape(r, s) f = Cast<to = 1>(g) c = ConstantOfShape(s)
        a = Add(f, c) y = Add(x, a) }"""
    model = made_static(text, zero=np.int64(0), one=np.int64(1))
    assert ops(model) == ["Add"] and len(model.graph.initializers) == 1


def test_a_shape_known_only_after_the_first_round(made_static):
    """The target of the first Reshape is computed, and gives the second its own."""
    text = """(float[B,3,H,W] x) => (float[M] y) { s = Shape(x) t = Slice(s, two, four)
        u = Concat<axis = 0>(open, t) a = Reshape(x, u) sa = Shape(a) p = ReduceProd(sa)
        y = Reshape(a, p) }"""
    assert ops(made_static(text, two=[2], four=[4], open=[-1])) == ["Reshape", "Reshape"]


def test_an_output_that_follows_from_shapes_alone_is_a_constant(made_static):
    model = made_static("(float[B,3,H,W] x) => (int64[4] y) { y = Shape(x) }")
    assert not ops(model) and list(model.graph.initializers) == ["y"]


def test_numbers_that_are_random_stay_so(write):
    path = write("(float[1,3,4,6] x) => (float[1,3,4,6] y) { "
                 "r = RandomNormal<shape = [1, 3, 4, 6]>() y = Add(x, r) }")  # fmt: skip
    model = read_onnx(path)
    make_static(path, model)
    assert ops(model) == ["RandomNormal", "Add"]


def test_quantised_weights_stay_integers(made_static):
    text = """(float[1,3,4,6] x) => (float[1,3,4,6] y) {
        w = DequantizeLinear(q, scale) y = Mul(x, w) }"""
    model = made_static(text, q=np.full((4, 6), 3, np.int8), scale=np.float32(0.1))
    assert ops(model) == ["DequantizeLinear", "Mul"]


def test_what_would_fill_the_memory_is_left_to_run_time(made_static, monkeypatch):
    monkeypatch.setattr(static, "MAX_BYTES", 24)
    text = """(float[B,3,H,W] x) => (float[B,3,H,W] y) { s = Shape(x) c = ConstantOfShape(s)
        y = Add(x, c) }"""
    assert ops(made_static(text)) == ["ConstantOfShape", "Add"]


def test_a_hostile_size_is_never_allocated(write, refused):
    path = write(
        """(float[1,3,4,6] x) => (float[1,72] y) { c = ConstantOfShape(huge)
        r = ReduceMax<keepdims = 0>(c) f = Flatten(x) y = Add(f, r) }""",
        huge=np.full(5, 2**12),
    )
    refused(path, "EV142", "does not run in ONNX Runtime", "for one picture")


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (
            "[find] n = NonZero(x) f = Cast<to = 1>(n) y = Transpose(f)",
            "n, which NonZero find gives",
        ),
        (
            """o = Sign(x) b = Cast<to = 9>(o) c = Reshape(b, all) [pick] k = Compress(x, c)
            y = Reshape(k, two)""",
            "k, which Compress pick gives",
        ),
    ],
)
def test_a_shape_that_depends_on_the_picture_is_refused_and_named(write, refused, lines, named):
    arrays = {"all": np.array([-1]), "two": np.array([1, -1])} if "all" in lines else {}
    path = write(f"(float[1,3,4,6] x) => (float[N,M] y) {{ {lines} }}", **arrays)
    assert named in refused(path, "EV142", "cannot be made static", "without dynamic axes").why


def test_group_norm_has_the_shape_of_its_input(made_static):
    """onnx infers none; two in a row, and a Reshape by what comes out of them."""
    text = """(float[B,3,H,W] x) => (float[B,3,K] y) {
        a = GroupNormalization<num_groups = 3>(x, g, b)
        c = GroupNormalization<num_groups = 1>(a, g, b) s = Shape<end = 2>(c)
        t = Concat<axis = 0>(s, open) y = Reshape(c, t) }"""
    arrays = {n: np.ones(3, np.float32) for n in "gb"}
    model = made_static(text, 21, open=[-1], **arrays)
    assert ops(model) == ["GroupNormalization", "GroupNormalization", "Reshape"]


def test_shapes_that_do_not_fit_together_are_told(write, refused):
    text = "(float[1,3,H,W] x) => (float[1,K] y) { f = Reshape(x, fixed) y = Flatten(f) }"
    path = write(text, "[image]\nheight = 4\nwidth = 4\n", fixed=np.array([1, 5, 7]))
    refused(path, "EV142", "vit.onnx", "export the model again")


def test_what_onnx_runtime_cannot_compute_is_told(write):
    """A Gather from behind the end of a constant."""
    text = """(float[1,3,4,6] x) => (float[1,3,4,6] y) { s = Shape(x)
        g = Gather<axis = 0>(s, far) f = Cast<to = 1>(g) y = Mul(x, f) }"""
    path = write(text, far=np.int64(9))
    with pytest.raises(EdgeError, match=r"EV142 .*cannot be made static"):
        make_static(path, read_onnx(path))


@settings(max_examples=40, suppress_health_check=ONE_FOLDER)
@given(st.data())
def test_any_arithmetic_on_sizes_is_computed(made_static, data):
    """Random expressions of batch, height and width, which end as a factor."""
    lines, known = ["s = Shape(x)"], []
    for i in range(4):
        lines.append(f"d{i} = Gather<axis = 0>(s, i{i})")
        known.append(f"d{i}")
    for i in range(data.draw(st.integers(1, 8))):
        op = data.draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min"]))
        a, b = (data.draw(st.sampled_from(known)) for _ in range(2))
        lines.append(f"e{i} = {op}({a}, {b})")
        known.append(f"e{i}")
    text = f"""(float[B,3,H,W] x) => (float[B,3,H,W] y) {{ {" ".join(lines)}
        f = Cast<to = 1>({known[-1]}) y = Mul(x, f) }}"""
    assert ops(made_static(text, **{f"i{i}": np.int64(i) for i in range(4)})) == ["Mul"]


def test_a_model_of_a_thousand_nodes_takes_a_moment(made_static):
    steps = " ".join(f"v{i + 1} = Sin(v{i})" for i in range(1000))
    text = f"(float[B,3,H,W] x) => (float[B,3,H,W] y) {{ v0 = Neg(x) {steps} y = Abs(v1000) }}"
    assert len(ops(made_static(text))) == 1002


def test_bare_model_and_read_agree(write):
    model = bare_model("(float[1,3,4,6] x) => (float[1,72] y) { y = Flatten(x) }")
    assert ops(read_onnx(write(model))) == ["Flatten"]
