"""fuse-layer-norm: every way exporters write it becomes one node; what only looks like it stays."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.fuse_layer_norm import FuseLayerNorm

RNG = np.random.default_rng(0)
SHAPE = (2, 5, 8)
SQUARES = {"pow": "s = Pow(d, two)", "mul": "s = Mul(d, d)"}
ROOTS = {  # how the deviation is divided by the root of the variance
    "Sqrt, Div": "r = Sqrt(e) n = Div({d}, r)",
    "Pow, Div": "r = Pow(e, half) n = Div({d}, r)",
    "Pow -0.5": "r = Pow(e, minus_half) n = Mul({d}, r)",
    "Reciprocal": "q = Sqrt(e) r = Reciprocal(q) n = Mul(r, {d})",
    "1 / root": "q = Sqrt(e) r = Div(one, q) n = Mul({d}, r)",
}
NUMBERS = {"two": 2.0, "half": 0.5, "minus_half": -0.5, "one": 1.0}


def text(
    square="pow", root="Sqrt, Div", twice=False, scale="after", bias=True, shape=SHAPE, more=""
):
    """The graph as it is written; `scale`: after, before (onto the root, as JAX does) or none."""
    size = ",".join(map(str, shape))
    body = ["m = ReduceMean<keepdims = 1>(x, axes)", "d = Sub(x, m)", SQUARES[square]]
    body += ["v = ReduceMean<keepdims = 1>(s, axes)", "e = Add(v, eps)"]
    body += ["d2 = Sub(x, m)"] if twice else []
    step = ROOTS[root].format(d="d2" if twice else "d")
    if scale == "before":
        head = step.rpartition(" n = ")[0]
        body += [head, "g = Mul(r, scale)", f"n = Mul({'d2' if twice else 'd'}, g)"]
    else:
        body.append(step)
    last = "n"
    if scale == "after":
        body.append("ns = Mul(n, scale)")
        last = "ns"
    if bias:
        body.append(f"nb = Add(bias, {last})")
        last = "nb"
    body.append(f"y = Neg({last})")
    return f"(float[{size}] x) => (float[{size}] y{more}) {{ {' '.join(body)} }}"


def constants(words: str, eps=1e-5, axes=(-1,), inner=(8,)):
    """Those a text names."""
    made = {name: np.float32(value) for name, value in NUMBERS.items()}
    made |= {"eps": np.float32(eps), "axes": np.array(axes)}
    made |= {n: RNG.normal(size=inner).astype(np.float32) for n in ("scale", "bias")}
    return {name: array for name, array in made.items() if re.search(rf"\b{name}\b", words)}


def normalised(x, eps, axes, scale=1.0, bias=0.0):
    """By the book, in float64."""
    x = x.astype(np.float64)
    d = x - x.mean(axes, keepdims=True)
    return d / np.sqrt((d * d).mean(axes, keepdims=True) + eps) * scale + bias


def kinds(result):
    return [n.op_type for n in result.model.parts["vision"].graph]


FEED = RNG.normal(2, 3, SHAPE).astype(np.float32)
NEAR = {"rtol": 1e-5, "atol": 2e-6}


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("twice", [False, True])
def test_every_way_to_write_it_becomes_one_node(graph, apply, square, root, twice):
    words = text(square, root, twice)
    arrays = constants(words)
    result = apply(FuseLayerNorm(), graph(words, **arrays), **NEAR, x=FEED)
    assert kinds(result) == ["LayerNormalization", "Neg"]
    assert [(n.kind, n.why) for n in result.notes] == [("matched", "1 became LayerNormalization")]
    assert set(result.model.parts["vision"].graph.initializers) == {"scale", "bias"}


def test_it_is_the_layer_norm_of_the_book(graph, apply, ort):
    words = text()
    arrays = constants(words, eps=1e-3)
    result = apply(FuseLayerNorm(), graph(words, **arrays), **NEAR, x=FEED)
    want = -normalised(FEED, 1e-3, (-1,), arrays["scale"], arrays["bias"])
    got = ort(result.model.parts["vision"], x=FEED)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    node = result.model.parts["vision"].graph.node(0)
    assert node.attributes["epsilon"].value == pytest.approx(1e-3)
    assert node.outputs[0].name == "nb"  # the name of what it stands in for


@pytest.mark.parametrize(
    ("scale", "bias"), [("none", False), ("none", True), ("after", False), ("before", True)]
)
def test_scale_and_bias_may_be_missing_or_stand_on_the_root(graph, apply, scale, bias):
    words = text(root="Reciprocal" if scale == "before" else "Sqrt, Div", scale=scale, bias=bias)
    result = apply(FuseLayerNorm(), graph(words, **constants(words)), **NEAR, x=FEED)
    assert kinds(result) == ["LayerNormalization", "Neg"]
    assert len(result.model.parts["vision"].graph.node(0).inputs) == 2 + bias


@pytest.mark.parametrize("inner", [(1, 1, 8), (1, 8), (), (1,)])
def test_a_scale_of_another_shape_is_spread_out(graph, apply, inner):
    words = text()
    result = apply(FuseLayerNorm(), graph(words, **constants(words, inner=inner)), **NEAR, x=FEED)
    node = result.model.parts["vision"].graph.node(0)
    assert node.op_type == "LayerNormalization" and tuple(node.inputs[1].shape) == (8,)


def test_several_last_axes(graph, apply):
    words = text()
    part = graph(words, **constants(words, axes=(2, 1), inner=(5, 8)))
    result = apply(FuseLayerNorm(), part, **NEAR, x=FEED)
    assert result.model.parts["vision"].graph.node(0).attributes["axis"].value == 1


def test_a_scale_along_other_axes_stays_where_it_is(graph, apply):
    words = text(bias=False)
    result = apply(FuseLayerNorm(), graph(words, **constants(words, inner=(5, 1))), **NEAR, x=FEED)
    assert kinds(result) == ["LayerNormalization", "Mul", "Neg"]


def refused(result, why):
    assert not result.changed and "LayerNormalization" not in kinds(result)
    (note,) = result.notes
    assert note.kind == "skipped" and why in note.why, note
    return note


def test_a_norm_over_channels_in_front_is_refused(graph, apply):
    words = text(scale="none", bias=False)
    result = apply(FuseLayerNorm(), graph(words, **constants(words, axes=(1,))), x=FEED)
    refused(result, "normalises axes [1] of 3, not the last")


def test_an_rms_norm_is_refused(graph, apply):
    part = graph(
        """(float[2,5,8] x) => (float[2,5,8] y) { s = Pow(x, two)
        v = ReduceMean<keepdims = 1>(s, axes) e = Add(v, eps) [root] r = Sqrt(e) y = Div(x, r) }""",
        two=np.float32(2), axes=np.array([-1]), eps=np.float32(1e-6),
    )  # fmt: skip
    assert (
        refused(apply(FuseLayerNorm(), part, x=FEED), "no mean is taken off").where == "vision/root"
    )


def test_an_epsilon_that_is_computed_is_refused(graph, apply):
    words = text().replace("e = Add(v, eps)", "c = ReduceMax<keepdims = 0>(x) e = Add(v, c)")
    refused(apply(FuseLayerNorm(), graph(words, **constants(words)), x=FEED), "epsilon is computed")


@pytest.mark.parametrize(("value", "shape"), [("d", "2,5,8"), ("v", "2,5,1"), ("r", "2,5,1")])
def test_an_inner_value_that_is_an_output_is_refused(graph, apply, value, shape):
    words = text(more=f", float[{shape}] {value}")
    result = apply(FuseLayerNorm(), graph(words, **constants(words)), x=FEED)
    refused(result, "is an output" if value != "r" else "not divided by it")


def test_an_inner_value_that_is_read_elsewhere_is_refused_with_its_reader(graph, apply):
    words = text(more=", float[2,5,8] z").replace("y = Neg(", "[spy] z = Neg(d) y = Neg(")
    result = apply(FuseLayerNorm(), graph(words, **constants(words)), x=FEED)
    refused(result, "d, which is inside it, is read by spy as well")


def test_a_mean_that_drops_its_axis_is_no_layer_norm(graph, apply):
    """[8,8] - mean [8] broadcasts along the wrong axis: a legal graph, and another function."""
    words = text(scale="none", bias=False, shape=(8, 8)).replace("keepdims = 1", "keepdims = 0")
    result = apply(FuseLayerNorm(), graph(words, **constants(words)), x=FEED[0, :1].repeat(8, 0))
    assert not result.changed


def test_the_mean_of_another_value_is_no_layer_norm(graph, apply):
    words = text().replace(
        "m = ReduceMean<keepdims = 1>(x", "o = Exp(x) m = ReduceMean<keepdims = 1>(o"
    )
    refused(
        apply(FuseLayerNorm(), graph(words, **constants(words)), x=FEED), "no mean is taken off"
    )


def test_half_precision_is_refused(graph, solo):
    words = text(scale="none", bias=False).replace("float[", "float16[")
    arrays = {k: v.astype(np.float16) if v.dtype == np.float32 else v
              for k, v in constants(words).items()}  # fmt: skip
    refused(FuseLayerNorm()(solo(graph(words, **arrays))), "works in float16")


def test_a_square_root_of_something_else_is_nothing_to_tell(graph, apply):
    part = graph("(float[2,5,8] x) => (float[2,5,8] y) { a = Abs(x) y = Sqrt(a) }")
    result = apply(FuseLayerNorm(), part, x=FEED)
    assert not result.changed and result.notes == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_variant_of_any_shape_keeps_its_function(graph, apply, ort, data):
    draw = data.draw
    lead = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    shape = (*lead, draw(st.integers(2, 9)))
    last = draw(st.integers(1, len(shape)))
    axes = tuple(range(len(shape) - last, len(shape)))
    if draw(st.booleans()):
        axes = tuple(a - len(shape) for a in axes)
    eps = draw(st.sampled_from([1e-3, 1e-5, 1e-6, 0.1]))
    words = text(
        draw(st.sampled_from(sorted(SQUARES))), draw(st.sampled_from(sorted(ROOTS))),
        draw(st.booleans()), draw(st.sampled_from(["after", "none"])), draw(st.booleans()), shape,
    )  # fmt: skip
    arrays = constants(words, eps=eps, axes=axes, inner=shape[len(shape) - last :])
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(1, 2, shape).astype(np.float32)
    result = apply(FuseLayerNorm(), graph(words, **arrays), rtol=1e-4, atol=1e-4, x=x)
    assert kinds(result) == ["LayerNormalization", "Neg"]
    want = -normalised(x, eps, axes, arrays.get("scale", 1.0), arrays.get("bias", 0.0))
    got = ort(result.model.parts["vision"], x=x)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
