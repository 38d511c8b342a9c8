"""merge-duplicates: equal work is done once, equal constants are kept once, nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.merge_duplicates import MAX_INITIALIZER_BYTES, MergeDuplicates

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def constants(result):
    return sorted(result.model.parts["vision"].graph.initializers)


def test_a_chain_computed_twice_is_computed_once(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Mul(x, w) b = Cos(a) c = Mul(x, w) d = Cos(c)
        e = Sin(c) f = Add(b, d) y = Mul(f, e) }""",
        w=np.float32(0.5),
    )
    result = apply(MergeDuplicates(), part, x=X)
    assert result.changed and ops(result) == ["Mul", "Cos", "Sin", "Add", "Mul"]
    assert result.notes[0].kind == "matched" and "7 -> 5 nodes" in result.notes[0].why


def test_equal_constants_are_merged_and_then_the_work_on_them(graph, apply, ops):
    part = graph(
        "(float[2,3] x) => (float[2,3] y) { a = Mul(x, v) b = Mul(x, w) y = Add(a, b) }",
        v=np.full((1, 3), 2, np.float32), w=np.full((1, 3), 2, np.float32),
    )  # fmt: skip
    result = apply(MergeDuplicates(), part, x=X)
    assert ops(result) == ["Mul", "Add"] and len(constants(result)) == 1
    assert "2 -> 1 constants" in result.notes[0].why


@pytest.mark.parametrize(
    ("v", "w"),
    [
        (np.zeros(3, np.float32), np.zeros((1, 3), np.float32)),
        (np.zeros(3, np.float32), np.float32([0, 0, 1e-45])),
        (np.zeros(3, np.float32), np.float32([0, 0, -0.0])),
    ],
    ids=["shape", "value", "sign of zero"],
)
def test_constants_that_only_look_alike_stay_apart(graph, apply, v, w):
    text = "(float[2,3] x) => (float[2,3] y) { a = Div(x, v) b = Div(x, w) y = Max(a, b) }"
    result = apply(MergeDuplicates(), graph(text, v=v, w=w), x=X + 1)
    assert not result.changed and constants(result) == ["v", "w"]


def test_one_and_true_are_not_the_same_bytes_read_twice(graph, apply):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Where(t, x, x) b = Cast<to = 1>(i) y = Add(a, b) }""",
        t=np.array([True]), i=np.array([1], np.int8),
    )  # fmt: skip
    assert not apply(MergeDuplicates(), part, x=X).changed


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_limit_is_in_bytes_whatever_the_type(graph, apply, dtype):
    size = MAX_INITIALIZER_BYTES // np.dtype(dtype).itemsize
    kind = {"float32": "float", "float64": "double", "int64": "int64"}[np.dtype(dtype).name]
    for elements, left in ((size, 1), (size + 1, 2)):
        text = f"({kind}[{elements}] x) => ({kind}[{elements}] y) {{ a = Sub(x, v) y = Add(a, w) }}"
        part = graph(text, v=np.ones(elements, dtype), w=np.ones(elements, dtype))
        result = apply(MergeDuplicates(), part, x=np.ones(elements, dtype))
        assert len(constants(result)) == left


@pytest.mark.parametrize(
    "made",
    ["RandomNormal<shape = [2, 3]>()", "RandomUniform<shape = [2, 3]>()", "RandomNormalLike(x)",
     "RandomUniformLike(x)", "Bernoulli(p)"],
)  # fmt: skip
def test_two_random_draws_are_two_draws(graph, solo, ops, made):
    body = f"a = {made} b = {made} c = Sub(a, b) d = Mul(x, p) y = Add(c, d)"
    half = np.full((2, 3), 0.5, np.float32)
    part = graph(f"(float[2,3] x) => (float[2,3] y) {{ {body} }}", p=half)
    assert len(ops(MergeDuplicates()(solo(part)))) == 5


def test_two_dropouts_in_training_are_two_draws(graph, solo, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Dropout(x, half, yes) b = Dropout(x, half, yes) y = Sub(a, b) }""",
        half=np.float32(0.5), yes=np.array(True),
    )  # fmt: skip
    assert ops(MergeDuplicates()(solo(part))) == ["Dropout", "Dropout", "Sub"]


def test_attributes_count(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Softmax<axis = 0>(x) b = Softmax<axis = 1>(x) c = Softmax<axis = 1>(x)
        d = Add(a, b) y = Add(d, c) }"""
    )
    assert ops(apply(MergeDuplicates(), part, x=X)) == ["Softmax", "Softmax", "Add", "Add"]


def test_outputs_that_are_equal_both_keep_their_names(graph, apply):
    part = graph("(float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Neg(x) z = Neg(x) }")
    result = apply(MergeDuplicates(), part, x=X)
    assert [v.name for v in result.model.parts["vision"].graph.outputs] == ["y", "z"]


def test_an_output_merged_with_an_inner_value_keeps_its_name(graph, apply, ops):
    part = graph("(float[2,3] x) => (float[2,3] y) { a = Neg(x) y = Neg(x) b = Cos(a) }")
    result = apply(MergeDuplicates(), part, x=X)
    assert ops(result) == ["Neg", "Cos"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_graphs_keep_their_function(random_graph, random_feeds, graph, apply, ops, data):
    text, arrays = data.draw(random_graph)
    result = apply(MergeDuplicates(), graph(text, **arrays), **random_feeds)
    nodes = list(result.model.parts["vision"].graph)
    work = [(n.op_type, tuple(map(id, n.inputs))) for n in nodes if n.op_type != "Identity"]
    assert len(work) == len(set(work)), "the same work is left twice"
