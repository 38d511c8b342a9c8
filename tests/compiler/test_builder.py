"""GraphBuilder: names that never clash, order and shapes that are right when it has finished."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder


@pytest.fixture
def part(graph):
    return graph("(float[2,3] x) => (float[2,3] y) { [n] y = Neg(x) }")


def double(part, prefix="twice"):
    """y -> 2 y + 1, as the new output."""
    build = GraphBuilder(part, prefix)
    out = part.graph.outputs[0]
    made = build("Add", build("Mul", out, build.const(2, np.float32)), build.const(1, np.float32))
    made.shape, made.dtype = out.shape, out.dtype
    part.graph.outputs[0] = made
    build.finish()
    return made


def all_names(part):
    values = [v.name for n in part.graph for v in n.outputs] + list(part.graph.initializers)
    return values + [v.name for v in part.graph.inputs], [n.name for n in part.graph]


def test_it_computes_what_was_asked(part, ort):
    double(part)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(next(iter(ort(part, x=x).values())), -2 * x + 1)


def test_applied_many_times_every_name_is_unique(part, ort):
    for _ in range(5):
        double(part)
    values, nodes = all_names(part)
    assert len(values) == len(set(values)) and len(nodes) == len(set(nodes))
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(next(iter(ort(part, x=x).values())), x * (-32 + 31))


def test_names_that_a_predecessor_left_behind_are_taken(part, ort):
    """A later pass may have renamed its nodes; what they made keeps the old names."""
    for _ in range(2):
        double(part)
        for place, node in enumerate(part.graph):
            node.name, node.outputs[0].name = f"node_{place}", f"value_{place}"
    for name in "ab":  # without a constant
        build = GraphBuilder(part, "again")
        part.graph.outputs[0] = build("Neg", part.graph.outputs[0])
        build.finish()
        part.graph.node(-1).name = name
    values, _ = all_names(part)
    assert len(values) == len(set(values))
    assert (next(iter(ort(part, x=np.zeros((2, 3), np.float32)).values())) == 3).all()


def test_several_outputs_and_constants_of_any_type(part, ort):
    build = GraphBuilder(part, "top")
    best, index = build("TopK", part.graph.outputs[0], build.const([1]), outputs=2)
    assert build.const([1.5], np.float32).dtype.name == "FLOAT"
    assert build.const(3).dtype.name == "INT64" and build.const(3).shape == []
    part.graph.outputs.extend([best, index])
    build.finish()
    assert (list(best.shape), best.dtype.name) == ([2, 1], "FLOAT")
    assert (list(index.shape), index.dtype.name) == ([2, 1], "INT64")
    outputs = list(ort(part, x=np.array([[1, 2, 3], [6, 5, 4]], np.float32)).values())
    assert outputs[1].tolist() == [[-1], [-4]] and outputs[2].tolist() == [[0], [2]]


def test_what_is_built_in_front_is_sorted_to_the_front(part, ort):
    build = GraphBuilder(part, "front")
    node = part.graph.node(0)
    shifted = build("Add", part.graph.inputs[0], build.const(1, np.float32))
    node.replace_input_with(0, shifted)
    build.finish()
    assert [n.op_type for n in part.graph] == ["Add", "Neg"]
    assert (ort(part, x=np.zeros((2, 3), np.float32))["y"] == -1).all()


def test_a_copy_never_walks_what_it_leaves_alone(graph, ort):
    """A residual stream has 2^400 paths and is deeper than Python's stack."""
    lines = ["[n0] x1 = Add(x, x)"] + [f"[n{i}] x{i + 1} = Max(x{i}, x{i})" for i in range(1, 400)]
    part = graph(
        f"(float[2] x, float[2] z) => (float[2] y) {{ {' '.join(lines)} [z] y = Add(x400, z) }}"
    )
    build, (_, z) = GraphBuilder(part, "copy"), part.graph.inputs
    twice = build("Mul", z, build.const(2, np.float32))
    part.graph.outputs.append(build.copy(part.graph.outputs[0], {z: twice}))
    assert len(list(part.graph)) == 403  # Mul and another Add
    build.finish()
    y, made = ort(part, x=np.ones(2, np.float32), z=np.full(2, 3, np.float32)).values()
    assert y.tolist() == [5, 5] and made.tolist() == [8, 8]


def test_two_copies_share_their_nodes(graph):
    part = graph("(float[2] x) => (float[2] y, float[2] z) { a = Neg(x) y = Abs(a) z = Exp(a) }")
    build = GraphBuilder(part, "copy")
    instead = {part.graph.inputs[0]: build("Sin", part.graph.inputs[0])}
    y, z = (build.copy(value, instead) for value in list(part.graph.outputs))
    assert y.producer().inputs[0] is z.producer().inputs[0] and len(list(part.graph)) == 7
    assert build.copy(part.graph.outputs[0], instead) is y
