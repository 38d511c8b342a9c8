"""Attention that other targets keep, and ops on a row of numbers, against ONNX Runtime's own."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.runtimes.tensorrt.spell_out import spell_out

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_row_of_numbers_gets_a_second_dimension(graph, ort, op, keep):
    """TensorRT wants two; ArgMax of a row may keep its dimension or not."""
    index = op.startswith("Arg")
    shape = ("int64[1]" if keep else "int64") if index else "float[7]"
    words = f"<axis = 0, keepdims = {keep}>" if index else "<axis = 0>"
    part = graph(f"(float[7] x) => ({shape} y) {{ y = {op}{words}(x) }}")
    made = spell_out(part, frozenset())
    assert [n.op_type for n in made.graph] == ["Unsqueeze", op, "Squeeze"]
    x = RNG.normal(size=7).astype(np.float32)
    np.testing.assert_array_equal(ort(made, x=x)["y"], ort(part, x=x)["y"])


def test_more_dimensions_are_left_alone(graph):
    part = graph("(float[2,7] x) => (float[2,7] y) { y = Softmax<axis = 1>(x) }")
    assert spell_out(part, frozenset()) is part


ATTENTION = """(float[1,4,3,8] q, float[1,{few},5,8] k, float[1,{few},5,6] v{port})
    => (float[1,4,3,6] y) {{ y = Attention{words}(q, k, v{mask}) }}"""


@pytest.mark.parametrize("few", [4, 2])
@pytest.mark.parametrize("words", ["", "<is_causal = 1>", "<softcap = 2.0>", "<scale = 0.3>"])
@pytest.mark.parametrize("kind", [None, "bool", "float"])
def test_attention_that_others_leave_is_that_of_onnx_runtime(graph, ort, few, words, kind):
    """Masks of a row and a key each; one row may look at nothing, and gives zeros."""
    port, mask = (f", {kind}[1,1,3,5] m", ", m") if kind else ("", "")
    part = graph(ATTENTION.format(few=few, port=port, mask=mask, words=words))
    feeds = {
        name: RNG.normal(size=size).astype(np.float32)
        for name, size in (("q", (1, 4, 3, 8)), ("k", (1, few, 5, 8)), ("v", (1, few, 5, 6)))
    }
    if kind == "bool":
        feeds["m"] = RNG.random((1, 1, 3, 5)) < 0.6
        feeds["m"][:, :, 1] = False
        feeds["m"][:, :, 0, 0] = feeds["m"][:, :, 2, 0] = True
    elif kind == "float":
        feeds["m"] = RNG.normal(size=(1, 1, 3, 5)).astype(np.float32)
    made = spell_out(part, frozenset({"Attention"}))
    assert not [n for n in made.graph if n.op_type == "Attention"]
    want = ort(part, **feeds)["y"]
    if kind == "bool":
        want[:, :, 1] = 0  # what the definition says; ONNX Runtime gives a mean or a NaN there
    np.testing.assert_allclose(ort(made, **feeds)["y"], want, atol=1e-5)


def test_flat_attention_by_counts_of_heads(graph, ort):
    part = graph("""(float[1,3,32] q, float[1,5,16] k, float[1,5,16] v) => (float[1,3,32] y) {
        y = Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v) }""")
    sizes = {"q": (1, 3, 32), "k": (1, 5, 16), "v": (1, 5, 16)}
    feeds = {name: RNG.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    made = spell_out(part, frozenset({"Attention"}))
    assert not [n for n in made.graph if n.op_type == "Attention"]
    np.testing.assert_allclose(ort(made, **feeds)["y"], ort(part, **feeds)["y"], atol=1e-5)
