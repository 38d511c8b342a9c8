"""drop-dead: nodes, constants, opsets and optional outputs that nothing needs are gone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.passes.cleanup.drop_dead import DropDead

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def names(result):
    return [v.name for v in result.model.parts["vision"].graph.outputs]


def test_a_branch_that_no_output_needs_goes_with_its_constants(graph, apply, ops):
    part = graph(
        "(float[2,3] x) => (float[2,3] y) { y = Neg(x) a = Mul(x, w) b = Cos(a) }", w=np.float32(2)
    )
    result = apply(DropDead(), part, x=X)
    assert result.changed and ops(result) == ["Neg"]
    assert not result.model.parts["vision"].graph.initializers
    assert "3 -> 1 nodes" in result.notes[0].why and result.notes[0].kind == "matched"


def test_a_constant_that_nothing_reads(graph, apply):
    part = graph("(float[2,3] x) => (float[2,3] y) { y = Neg(x) a = Neg(w) }", w=np.float32(2))
    part.graph.remove(part.graph.node(1))
    result = apply(DropDead(), part, x=X)
    assert result.changed and not result.model.parts["vision"].graph.initializers
    assert "1 -> 0 constants" in result.notes[0].why


def test_inputs_stay_though_nothing_reads_them(graph, apply):
    part = graph("(float[2,3] x, float[1] gone) => (float[2,3] y) { y = Neg(x) }")
    result = apply(DropDead(), part, x=X, gone=np.ones(1, np.float32))
    assert not result.changed and len(part.graph.inputs) == 2 and result.notes == ()


def test_identities_go(graph, apply, ops):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        a = Identity(x) b = Neg(a) c = Identity(b) d = Identity(c) e = Cos(d) y = Identity(e) }"""
    )
    result = apply(DropDead(), part, x=X)
    assert ops(result) == ["Neg", "Cos"] and names(result) == ["y"]


@pytest.mark.parametrize(
    "body",
    ["y = Identity(x) z = Neg(x)", "z = Neg(x) y = Identity(z)", "y = Neg(x) z = Identity(y)",
     "a = Neg(x) y = Identity(a) z = Identity(a)", "y = Identity(w) z = Neg(x)",
     "y = Identity(x) z = Identity(x)"],
)  # fmt: skip
def test_outputs_keep_their_names_and_order_whatever_they_alias(graph, apply, body):
    """A cache port is found by its name: two may be equal, and neither may take the other's."""
    text = f"(float[2,3] x) => (float[2,3] y, float[2,3] z) {{ {body} dead = Neg(w) }}"
    result = apply(DropDead(), graph(text, w=X), x=X)
    assert names(result) == ["y", "z"]


def test_an_opset_that_no_node_uses_goes(graph, apply):
    part = graph("(float[2,3] x) => (float[2,3] y) { y = Neg(x) }")
    part.opset_imports["com.microsoft"] = 1
    result = apply(DropDead(), part, x=X)
    assert result.changed and dict(result.model.parts["vision"].opset_imports) == {"": 23}
    assert "com.microsoft" in result.notes[0].why


def test_an_optional_output_that_nothing_reads_goes(graph, apply):
    part = graph(
        """(float[2,3] x) => (float[2,3] y) {
        y, mean, deviation = LayerNormalization(x, scale, bias) }""",
        scale=np.ones(3, np.float32), bias=np.zeros(3, np.float32),
    )  # fmt: skip
    result = apply(DropDead(), part, x=X)
    assert result.changed and len(result.model.parts["vision"].graph.node(0).outputs) == 1


def test_nothing_dead_is_nothing_changed(graph, apply, solo):
    part = graph("(float[2,3] x) => (float[2,3] y) { a = Neg(x) y = Mul(a, w) }", w=X)
    result = apply(DropDead(), part, x=X)
    assert not result.changed and result.model.parts["vision"] is part


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_graphs_keep_their_function(random_graph, random_feeds, graph, apply, ops, data):
    text, arrays = data.draw(random_graph)
    result = apply(DropDead(), graph(text, **arrays), **random_feeds)
    after = result.model.parts["vision"].graph
    assert all(v.is_graph_output() or v.uses() for n in after for v in n.outputs)
    assert all(v.is_graph_output() or v.uses() for v in after.initializers.values())
    assert not [n for n in after if n.op_type == "Identity" and not n.outputs[0].is_graph_output()]
