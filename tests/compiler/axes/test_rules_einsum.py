"""Einsum: a letter is an axis, judged by numpy and by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.axes import analyse
from edgevlm.compiler.axes.rules import einsum
from edgevlm.compiler.errors import JobFault

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5}


def build(new_net, equation: str, **sizes: int):
    net = new_net()
    sizes = SIZES | sizes
    operands = equation.replace(" ", "").split("->")[0].split(",")
    values = [
        net.input(f"x{i}", *(sizes[c] for c in letters)) for i, letters in enumerate(operands)
    ]
    return net.build(y=net("Einsum", *values, equation=equation, name="sum"))


@pytest.mark.parametrize("op", sorted(einsum.RULES))
@pytest.mark.parametrize(
    "equation",
    [
        "ab,bc->ac",
        "ab , bc -> ca",
        "abcd,abed->abce",
        "abc->cab",
        "ab,ab->",
        "ab,bc",
        "cab",
        "ab->b",
    ],
)
def test_terms_are_the_shapes_onnx_runtime_gives(op, equation, new_net, agrees):
    model = build(new_net, equation, e=6)
    assert model.graph.node(0).op_type == op
    agrees(model, analyse(model.graph))


@pytest.mark.parametrize("equation", ["ab,bc->ac", "abc->cab", "abc,abd->acd"])
def test_every_axis_can_be_resized(equation, new_net, refused):
    assert refused(build(new_net, equation)) == set()


def test_the_letter_that_vanishes_is_one_axis_in_both(new_net, resized, feeds_of, run):
    model, keep = build(new_net, "abc,bd->acd"), [0, 2]
    small, feeds = resized(model, "x0", 1, 2, keep), feeds_of(model)
    assert list(small.graph.inputs[1].shape) == [2, 5]
    less = {"x0": feeds["x0"][:, keep], "x1": feeds["x1"][keep]}
    expected = np.einsum("abc,bd->acd", less["x0"], less["x1"])
    np.testing.assert_allclose(run(small, less)["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_weight_is_cut_along_its_letter(new_net, resized, feeds_of, run, rng):
    net, keep = new_net(), [1, 3]
    w = net.weight(rng.normal(size=(4, 5)), "w")
    model = net.build(y=net("Einsum", net.input("x", 2, 4), w, equation="ac,cd->ad"))
    small, feeds = resized(model, "x", 1, 2, keep), feeds_of(model)
    expected = feeds["x"][:, keep] @ w.const_value.numpy()[keep]
    np.testing.assert_allclose(run(small, {"x": feeds["x"][:, keep]})["y"], expected, rtol=1e-4)


def test_attention_in_letters_names_what_it_is_told(new_net):
    model = build(new_net, "abcd,abed->abce", a=1, b=2, c=6, d=4, e=6)
    found = analyse(model.graph, {"x0": ("batch", "head", "token", "head_dim"),
                                  "x1": ("batch", "head", "kv", "head_dim")})  # fmt: skip
    assert found.names(model.graph.outputs[0]) == ("1", "head", "token", "kv")


def test_an_ellipsis_is_refused_by_name(new_net):
    net = new_net()
    model = net.build(net("Einsum", net.input("x", 2, 3), equation="...a->a...", name="dots"))
    with pytest.raises(JobFault, match="ellipsis") as caught:
        analyse(model.graph)
    assert caught.value.code == "EV211" and "dots" in caught.value.what


def test_letters_that_do_not_fit_are_refused(new_net):
    net = new_net()
    y = net("Einsum", net.input("x", 2, 3), equation="abc->a", name="broken")
    model = net.build(y)
    with pytest.raises(JobFault, match="Einsum is malformed"):
        analyse(model.graph)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_equation_of_two_operands_agrees_with_onnx_runtime(new_net, agrees, data):
    letters = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map("".join)
    left, right = data.draw(letters), data.draw(letters)
    known = sorted(set(left + right))
    result = data.draw(st.lists(st.sampled_from(known), unique=True).map("".join))
    model = build(new_net, f"{left},{right}->{result}")
    agrees(model, analyse(model.graph))
