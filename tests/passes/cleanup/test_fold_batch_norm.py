"""fold-batch-norm: convolutions of every kind take it in; what a convolution cannot do stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.fold_batch_norm import FoldBatchNorm

IN, OUT, SIDE, KERNEL = 4, 6, 7, 3
NEAR = {"rtol": 1e-4, "atol": 1e-5}
NORM = ("gain", "shift", "mean", "variance")


def text(op="Conv", dims=2, bias=True, more="", spy="", conv="", norm="", ins=IN, outs=OUT,
         kernel=KERNEL, strides=1):  # fmt: skip
    grown = (
        (SIDE - 1) * strides + kernel if op == "ConvTranspose" else (SIDE - kernel) // strides + 1
    )
    size, result = ",".join(["1", str(ins)] + [str(SIDE)] * dims), [str(grown)] * dims
    given_ = f"strides = [{', '.join([str(strides)] * dims)}]{conv}"
    reads = "x, weight, bias" if bias else "x, weight"
    return (
        f"(float[{size}] x) => (float[1,{','.join([str(outs), *result])}] y{more}) {{ "
        f"[conv] c = {op}<{given_}>({reads}) {spy} "
        f"[norm] n = BatchNormalization{norm}(c, {', '.join(NORM)}) y = Neg(n) }}"
    )


def constants(op="Conv", dims=2, bias=True, groups=1, ins=IN, outs=OUT, kernel=KERNEL, seed=0):
    rng = np.random.default_rng(seed)
    shape = (outs, ins // groups) if op == "Conv" else (ins, outs // groups)
    made = {"weight": rng.normal(size=(*shape, *[kernel] * dims))}
    made |= {"bias": rng.normal(size=outs)} if bias else {}
    made |= {name: rng.normal(size=outs) for name in NORM}
    made["variance"] = made["variance"] ** 2 + 0.1
    return {name: array.astype(np.float32) for name, array in made.items()}


def picture(dims=2, ins=IN, seed=0):
    return np.random.default_rng(seed).normal(size=(1, ins, *[SIDE] * dims)).astype(np.float32)


def convolved(x, weight, bias=None, groups=1, **_):
    """A Conv of stride 1 by the book, float64."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    dims, kernel = x.ndim - 2, weight.shape[2:]
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel, tuple(range(2, 2 + dims)))
    x_groups, w_groups = np.split(seen, groups, 1), np.split(weight, groups, 0)
    axes = list(range(-dims, 0))
    made = [
        np.moveaxis(np.tensordot(a, w, ([1, *axes], [1, *axes])), -1, 1)
        for a, w in zip(x_groups, w_groups, strict=True)
    ]
    out = np.concatenate(made, 1)
    return out if bias is None else out + bias.reshape(-1, *[1] * dims)


def normalised(x, arrays, epsilon=1e-5):
    gain, shift, mean, variance = (
        arrays[n].astype(np.float64).reshape(-1, *[1] * (x.ndim - 2)) for n in NORM
    )
    return (x - mean) / np.sqrt(variance + epsilon) * gain + shift


def kinds(result):
    return [n.op_type for n in result.model.parts["vision"].graph]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_every_convolution_takes_it_in(graph, apply, op, dims, groups, bias):
    words = text(op, dims, bias, conv=f", group = {groups}", strides=2)
    part = graph(words, **constants(op, dims, bias, groups))
    result = apply(FoldBatchNorm(), part, **NEAR, x=picture(dims))
    assert kinds(result) == [op, "Neg"]
    assert [(n.kind, n.why) for n in result.notes] == [
        ("matched", "1 became part of a convolution")
    ]
    after = result.model.parts["vision"].graph
    assert after.node(0).outputs[0].name == "n" and len(after.initializers) == 2
    assert after.node(0).attributes["group"].value == groups


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_batch_norm_of_the_book(graph, apply, ort, dims, groups, bias):
    words = text("Conv", dims, bias, conv=f", group = {groups}", norm="<epsilon = 0.01>")
    arrays = constants("Conv", dims, bias, groups)
    x = picture(dims)
    result = apply(FoldBatchNorm(), graph(words, **arrays), **NEAR, x=x)
    want = -normalised(convolved(x, groups=groups, **arrays), arrays, 0.01)
    got = ort(result.model.parts["vision"], x=x)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_depthwise_and_its_attributes_stay(graph, apply):
    words = text(ins=6, outs=6, conv=", group = 6, dilations = [1, 1], pads = [0, 0, 0, 0]")
    part = graph(words, **constants(groups=6, ins=6, outs=6))
    node = (
        apply(FoldBatchNorm(), part, **NEAR, x=picture(ins=6)).model.parts["vision"].graph.node(0)
    )
    assert {n: list(a.value) for n, a in node.attributes.items() if n != "group"} == {
        "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0],
    }  # fmt: skip


def test_weights_that_others_read_are_left_to_them(graph, apply, ort):
    """One weight for two convolutions, one of which has a norm behind it."""
    words = text(more=", float[1,6,5,5] z", spy="z = Conv(x, weight, bias)")
    result = apply(FoldBatchNorm(), graph(words, **constants()), **NEAR, x=picture())
    assert kinds(result).count("Conv") == 2 and "BatchNormalization" not in kinds(result)
    assert {"weight", "bias"} <= set(result.model.parts["vision"].graph.initializers)


def test_one_behind_the_other_are_both_taken_in(graph, apply):
    words = text().replace(
        "y = Neg(n)", f"n2 = BatchNormalization(n, {', '.join(NORM)}) y = Neg(n2)"
    )
    result = apply(FoldBatchNorm(), graph(words, **constants()), rtol=1e-3, atol=1e-4, x=picture())
    assert kinds(result) == ["Conv", "Neg"]


def refused(result, why):
    assert not result.changed and "BatchNormalization" in kinds(result)
    (note,) = result.notes
    assert (note.kind, note.where) == ("skipped", "vision/norm") and why in note.why, note


def test_one_that_is_training_is_refused(graph, apply):
    words = text(norm="<training_mode = 1>").replace("n = Batch", "n, m1, v1 = Batch")
    refused(
        apply(FoldBatchNorm(), graph(words, **constants()), x=picture()), "it is still training"
    )


@pytest.mark.parametrize("name", ["weight", "bias", *NORM])
def test_weights_that_are_computed_are_refused(graph, apply, name):
    arrays = constants()
    shape = ",".join(map(str, arrays[name].shape))
    words = text().replace(f", {name}", f", {name}2")
    words = words.replace(" x) =>", f" x, float[{shape}] {name}) =>")
    words = words.replace("{ [conv]", f"{{ {name}2 = Abs({name}) [conv]")
    value = arrays.pop(name)
    result = apply(FoldBatchNorm(), graph(words, **arrays), x=picture(), **{name: value})
    refused(result, "one of its weights is computed")


@pytest.mark.parametrize(
    "spoil",
    [
        {"variance": -1.0},
        {"variance": np.nan},
        {"gain": np.inf},
        {"gain": 1e38, "variance": 1e-8},
        {"mean": -np.inf},
    ],
)
def test_what_float32_cannot_hold_is_refused(graph, apply, spoil):
    """One bad channel is enough."""
    arrays = constants()
    for name, value in spoil.items():
        arrays[name][2] = value
    result = apply(FoldBatchNorm(), graph(text(), **arrays), x=picture())
    refused(result, "its variance or gain is no number that float32 can hold")


def test_a_variance_of_zero_is_as_good_as_its_epsilon(graph, apply):
    arrays = constants()
    arrays["variance"][1] = 0
    result = apply(FoldBatchNorm(), graph(text(), **arrays), rtol=1e-4, atol=1e-2, x=picture())
    assert kinds(result) == ["Conv", "Neg"]
    refused(
        apply(FoldBatchNorm(), graph(text(norm="<epsilon = 0.0>"), **arrays), x=picture()),
        "no number that float32 can hold",
    )


def test_half_precision_is_refused(graph, solo):
    arrays = {name: array.astype(np.float16) for name, array in constants().items()}
    result = FoldBatchNorm()(solo(graph(text().replace("float[", "float16["), **arrays)))
    refused(result, "one of its weights is no float32")


def test_another_op_in_front_is_refused_and_named(graph, apply):
    words = text().replace(f"BatchNormalization(c, {', '.join(NORM)})",
                           f"BatchNormalization(r, {', '.join(NORM)})")  # fmt: skip
    words = words.replace("[norm]", "r = Relu(c) [norm]")
    refused(apply(FoldBatchNorm(), graph(words, **constants()), x=picture()), "it follows Relu")


def test_a_norm_of_the_picture_itself_is_refused(graph, apply):
    part = graph(
        f"""(float[1,6,3] x) => (float[1,6,3] y) {{
        [norm] y = BatchNormalization(x, {", ".join(NORM)}) }}""",
        **{n: a for n, a in constants().items() if n in NORM},
    )
    x = np.ones((1, 6, 3), np.float32)
    refused(apply(FoldBatchNorm(), part, x=x), "it follows an input")


def test_a_convolution_that_others_read_is_refused_with_its_reader(graph, apply):
    words = text(more=", float[1,6,5,5] z", spy="[spy] z = Abs(c)")
    result = apply(FoldBatchNorm(), graph(words, **constants()), x=picture())
    refused(result, "c, which is inside it, is read by spy as well")


def test_a_convolution_that_is_an_output_is_refused(graph, apply):
    words = text(more=", float[1,6,5,5] c")
    result = apply(FoldBatchNorm(), graph(words, **constants()), x=picture())
    refused(result, "c, which is inside it, is an output of the part")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_convolution_keeps_its_function(graph, apply, data):
    draw = data.draw
    op, dims = draw(st.sampled_from(["Conv", "ConvTranspose"])), draw(st.integers(1, 2))
    groups, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    ins, outs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    bias, strides = draw(st.booleans()), draw(st.integers(1, 3))
    words = text(op, dims, bias, conv=f", group = {groups}", ins=ins, outs=outs, kernel=kernel,
                 strides=strides)  # fmt: skip
    seed = draw(st.integers(0, 99))
    arrays = constants(op, dims, bias, groups, ins, outs, kernel, seed)
    x = picture(dims, ins, seed + 1)
    result = apply(FoldBatchNorm(), graph(words, **arrays), rtol=1e-3, atol=1e-3, x=x)
    assert kinds(result) == [op, "Neg"]
