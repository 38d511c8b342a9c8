"""Which nodes run as one kernel: by hand, and as laws of random graphs."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from micro.dags import dags

from edgevlm.compiler.fused import constants_of, fuse, is_view

W = np.ones((4, 4), np.float32)


def ops(part) -> list[list[str]]:
    return [[node.op_type for node in group.nodes] for group in fuse(part)]


@pytest.mark.parametrize(
    ("body", "groups"),
    [
        ("a = MatMul(x, w) b = Add(a, w) y = Relu(b)", [["MatMul", "Add", "Relu"]]),
        ("a = MatMul(x, w) b = Sigmoid(a) y = Mul(a, b)", [["MatMul", "Sigmoid", "Mul"]]),
        (  # a gate: the second product's result enters the first one's kernel
            "a = MatMul(x, w) b = Sigmoid(a) c = Mul(a, b) d = MatMul(x, w) y = Mul(c, d)",
            [["MatMul"], ["MatMul", "Sigmoid", "Mul", "Mul"]],
        ),
        (  # the stream is read by the next norm and by the next sum
            "a = MatMul(x, w) s = Add(a, x) n = RMSNormalization(s, v) b = MatMul(n, w) "
            "y = Add(s, b)",
            [["MatMul", "Add"], ["RMSNormalization"], ["MatMul", "Add"]],
        ),
        ("a = MatMul(x, w) b = MatMul(a, w) y = Add(a, b)", [["MatMul"], ["MatMul", "Add"]]),
        ("a = Relu(w) b = MatMul(x, a) y = Identity(b)", [["MatMul"]]),
        ("a = MatMul(x, w) b = Identity(a) y = Relu(b)", [["MatMul", "Relu"]]),
        ("a = MatMul(x, w) y = Concat<axis = 0>(a, a)", [["MatMul"], ["Concat"]]),
    ],
    ids=range(8),
)
def test_groups_by_hand(graph, body, groups):
    rows = 8 if "Concat" in body else 4
    ports = f"(float[4,4] x) => (float[{rows},4] y)"
    arrays = {"w": W, "v": np.ones(4, np.float32)}
    used = {name: array for name, array in arrays.items() if re.search(rf"\b{name}\b", body)}
    assert ops(graph(f"{ports} {{ {body} }}", **used)) == groups


def test_an_output_of_the_part_ends_a_group(graph):
    part = graph(
        "(float[4,4] x) => (float[4,4] a, float[4,4] y) { a = MatMul(x, w) y = Relu(a) }", w=W
    )
    assert ops(part) == [["MatMul"], ["Relu"]]


def test_a_node_that_was_taken_out_reads_nothing(graph):
    part = graph(
        "(float[4,4] x) => (float[4,4] y, float[4,4] z) "
        "{ a = MatMul(x, w) y = Relu(a) z = Sigmoid(a) }",
        w=W,
    )
    gone = part.graph.node(2)
    part.graph.outputs.pop()
    part.graph.remove(gone)  # unsafe: it still holds its inputs, as after some passes
    assert ops(part) == [["MatMul", "Relu"]]


def test_a_transpose_of_ones_is_a_view_and_any_other_is_not(graph):
    ports = "(float[1,1,4,2] x) => (float[1,4,1,2] a, float[1,2,4,1] b)"
    part = graph(
        f"{ports} {{ a = Transpose<perm = [0,2,1,3]>(x) b = Transpose<perm = [0,3,2,1]>(x) }}"
    )
    assert [is_view(node) for node in part.graph] == [True, False]


@given(dags())
def test_every_node_runs_once_and_behind_what_it_reads(part):
    groups, constant = fuse(part), constants_of(part)
    ran = [node for group in groups for node in group.nodes]
    assert len(ran) == len(set(ran))
    assert set(ran) == {n for n in part.graph if not is_view(n) and n not in constant}
    done = set()
    for group in groups:
        done |= set(group.nodes)
        waiting = [v for node in group.nodes for v in node.inputs]
        while waiting:
            maker = waiting.pop().producer()
            if maker is not None and is_view(maker):
                waiting.extend(maker.inputs)
            else:
                assert maker is None or maker in done


@given(dags())
def test_nobody_outside_reads_what_lies_within_a_group(part):
    outputs = set(part.graph.outputs)
    for group in fuse(part):
        inside = set(group.nodes)
        for node in group.nodes[:-1]:
            reached = list(node.outputs)
            while reached:
                value = reached.pop()
                assert value not in outputs
                for user, _ in value.uses():
                    if is_view(user):
                        reached.extend(user.outputs)
                    else:
                        assert user in inside
