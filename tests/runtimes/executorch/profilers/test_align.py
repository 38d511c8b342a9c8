"""Kernels of a delegate and the nodes that it was given: told, or not told, never guessed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgevlm.runtimes.executorch.align import KINDS, aligned
from edgevlm.runtimes.executorch.nodes import Node


def test_in_the_order_of_each_kind():
    kernels = ["Fully Connected (NC, F32) GEMM #1", "Add (ND) #1", "Fully Connected (NC, F32) #2"]
    nodes = [Node("linear", "/a"), Node("quantize_per_tensor", "x"), Node("mm", "/b")]
    assert aligned(kernels, [*nodes, Node("add", "/c")]) == ["/a", "/c", "/b"]


def test_where_xnnpack_fused_some_nobody_is_named():
    """Two linears, of which one kernel is left: it may be either."""
    nodes = [Node("linear", "/a"), Node("linear", "/b"), Node("add", "/c")]
    assert aligned(["Fully Connected (NC, F32)", "Add (ND)"], nodes) == [None, "/c"]
    assert aligned(["Invalid Unary Op #1"], [Node("gelu", "/g")]) == [None]
    assert aligned([], nodes) == [] and aligned(["Add (ND)"], []) == [None]


def test_no_op_is_two_kinds():
    ops = [op for each in KINDS.values() for op in each]
    assert len(ops) == len(set(ops))


@given(st.data())
def test_as_many_of_a_kind_are_told_in_order(data):
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=12))
    nodes = [Node(KINDS[kind][0], f"/{place}") for place, kind in enumerate(kinds)]
    assert aligned([f"{kind} (NC, F32) #1" for kind in kinds], nodes) == [n.node for n in nodes]
