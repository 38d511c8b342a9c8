"""fold-constants: what no input reaches becomes an initializer, whatever its size, and no more."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.fold_constants import FoldConstants

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_chain_of_constants_becomes_one_initializer(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        [a] k = Constant<value_floats = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]>()
        [b] r = Reshape(k, to) [c] s = Neg(r) [d] y = Add(x, s) }""",
        to=np.array([2, 3]),
    )
    result = apply(FoldConstants(), part, x=X)
    assert result.changed and ops(result) == ["Add"]
    kept = result.model.parts["vision"].graph.initializers
    added = result.model.parts["vision"].graph.node(0).inputs[1]
    assert np.array_equal(kept[added.name].const_value.numpy(), -np.arange(1, 7).reshape(2, 3))
    assert [n.kind for n in result.notes] == ["matched"] and "4 -> 1 nodes" in result.notes[0].why


def test_small_constants_are_lifted_too_because_passes_rewrite_them(graph, apply, ops):
    """The shape of a Reshape has two or three elements: the axis analysis must find it stored."""
    part = graph(
        """(float[2,3] x) => (float[3,2] y) {
        [a] to = Constant<value_ints = [3, 2]>() [b] y = Reshape(x, to) }"""
    )
    result = apply(FoldConstants(), part, x=X)
    assert result.changed and ops(result) == ["Reshape"]
    assert result.model.parts["vision"].graph.initializers["to"].const_value.numpy().tolist() == [
        3,
        2,
    ]


def test_scalars_and_every_way_to_write_a_constant(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Constant<value_float = 2.0>() b = Mul(x, a)
        c = Constant<value = float[1] {3.0}>() d = Add(b, c)
        e = Constant<value_int = 1>() f = Cast<to = 1>(e) y = Sub(d, f) }"""
    )
    assert ops(apply(FoldConstants(), part, x=X)) == ["Mul", "Add", "Sub"]


def test_a_constant_that_is_the_output_stays(graph, apply):
    part = graph(
        """(float[2,3] x) => (float[2,3] y, float[2] z) {
        z = Constant<value_floats = [1.0, 2.0]>() y = Neg(x) }"""
    )
    assert not apply(FoldConstants(), part, x=X).changed


def test_a_result_over_max_bytes_stays_computed_and_is_told(graph, apply, ops):
    text = """(float[2,3] x) => (float[40,2,3] y) {
        big = Expand(one, to) neg = Neg(big) y = Add(x, neg) }"""
    part = graph(text, one=np.ones((1, 1, 3), np.float32), to=np.array([40, 2, 3]))
    added = 40 * 2 * 3 * 4 - 3 * 4 - 3 * 8  # both constants go
    assert ops(apply(FoldConstants(max_bytes=added), part, x=X)) == ["Add"]
    result = apply(FoldConstants(max_bytes=added - 1), part, x=X)
    assert ops(result) == ["Expand", "Neg", "Add"] and not result.changed
    assert [n.kind for n in result.notes] == ["skipped"]
    assert "Expand" in result.notes[0].why and "924 bytes" in result.notes[0].why


def test_large_constants_fold_too_where_the_model_grows_no_more_than_that(graph, apply, ops):
    """A mask made of a stored one (96 x 96 = 9216 elements), and a weight that is only turned."""
    part = graph(
        """(float[96,96] x) => (float[96,96] y) {
        bias = Where(mask, zero, low) a = Add(x, bias) t = Transpose(w) y = MatMul(a, t) }""",
        mask=np.ones((96, 96), bool), zero=np.float32(0), low=np.float32(-9),
        w=np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32),
    )  # fmt: skip
    feeds = {"x": np.ones((96, 96), np.float32)}
    assert ops(apply(FoldConstants(max_bytes=30_000), part, **feeds)) == ["Add", "MatMul"]
    tight = apply(FoldConstants(max_bytes=0), part, **feeds)
    assert ops(tight) == ["Where", "Add", "MatMul"]


def test_a_constant_of_shape_folds_and_a_dequantised_weight_does_not(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        zeros = ConstantOfShape(to) a = Add(x, zeros) w = DequantizeLinear(q, s) y = Mul(a, w) }""",
        to=np.array([2, 3]), q=np.ones((2, 3), np.int8), s=np.float32(2),
    )  # fmt: skip
    assert ops(apply(FoldConstants(), part, x=X)) == ["Add", "DequantizeLinear", "Mul"]


def test_random_numbers_are_not_constants(graph, solo, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        r = RandomNormal<shape = [2, 3]>() s = RandomUniformLike(k) t = Bernoulli(k)
        a = Add(x, r) b = Add(a, s) y = Add(b, t) }""",
        k=np.full((2, 3), 0.5, np.float32),
    )
    result = FoldConstants()(solo(part))
    assert ops(result) == ["RandomNormal", "RandomUniformLike", "Bernoulli", "Add", "Add", "Add"]


def test_what_an_input_reaches_is_left_as_it_is(graph, apply):
    part = graph("(float[2,3] x) => (float[2,3] y) { a = Neg(x) y = Neg(a) }")
    assert not apply(FoldConstants(), part, x=X).changed


def test_the_input_model_and_its_tensors_are_untouched(graph, solo):
    weight = np.ones((2, 3), np.float32)
    part = graph("(float[2,3] x) => (float[2,3] y) { a = Neg(w) y = Add(x, a) }", w=weight)
    FoldConstants()(solo(part))  # __call__ itself checks the graph
    assert (weight == 1).all()
    assert all(v.const_value is None for n in part.graph for v in n.outputs)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_graphs_keep_their_function(random_graph, random_feeds, graph, apply, ops, data):
    text, arrays = data.draw(random_graph)
    part = graph(text, **arrays)
    # ONNX Runtime's Sigmoid is an approximation: 1.6e-6 off at -4, where ours is exact
    result = apply(FoldConstants(), part, rtol=1e-5, **random_feeds)
    reached = set(result.model.parts["vision"].graph.inputs)
    for node in result.model.parts["vision"].graph:
        if any(v in reached for v in node.inputs):
            reached.update(node.outputs)
        else:
            assert any(v.is_graph_output() for v in node.outputs), f"{node.name} could be folded"
