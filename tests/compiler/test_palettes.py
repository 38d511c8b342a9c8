"""The form of tables in a graph: found as it was written, and nothing else is taken for one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.palettes import find_palette, write_palette

RNG = np.random.default_rng(0)
INDICES = RNG.integers(0, 16, (6, 8)).astype(np.uint8)
TEXT = "(float[3,6] x) => (float[3,8] y) { [n] y = MatMul(x, w) }"


def written(graph, tables, axis, dtype=ml_dtypes.uint4):
    """The part, and the Gather in it."""
    part = graph(TEXT, w=np.zeros((6, 8), np.float32))
    build = GraphBuilder(part, "p")
    made = write_palette(build, INDICES, tables, axis, dtype)
    next(n for n in part.graph if n.op_type == "MatMul").replace_input_with(1, made)
    build.finish()
    return part, made.producer()


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dtype", [ml_dtypes.uint4, np.uint8])
def test_runs_in_onnx_runtime_and_is_found_again(graph, ort, groups, dtype):
    tables = RNG.normal(size=(groups, 16)).astype(np.float32)
    part, node = written(graph, tables, 1, dtype)
    weight = tables[np.arange(8) // (8 // groups), INDICES]
    x = RNG.normal(size=(3, 6)).astype(np.float32)
    np.testing.assert_allclose(ort(part, x=x)["y"], x @ weight, rtol=1e-5, atol=1e-5)
    found = find_palette(node)
    np.testing.assert_array_equal(found.tables, tables)
    np.testing.assert_array_equal(found.indices.const_value.numpy().astype(np.uint8), INDICES)
    assert groups == 1 or found.axis == 1
    assert [n for n in part.graph if find_palette(n)] == [node]


def test_channels_may_be_the_first_axis(graph):
    _, node = written(graph, RNG.normal(size=(3, 16)).astype(np.float32), 0)
    assert find_palette(node).axis == 0


@pytest.mark.parametrize("first", [[0, 0, 0, 0, 16, 16, 16, 17], [16] * 4 + [0] * 4])
def test_other_places_are_no_tables(graph, first):
    """What begins elsewhere is a Gather like any other, and stays one."""
    part, node = written(graph, RNG.normal(size=(2, 16)).astype(np.float32), 1)
    add = node.inputs[1].producer()
    build = GraphBuilder(part, "q")
    add.replace_input_with(1, build.const(np.array([first]), np.int32))
    assert find_palette(node) is None


def test_rows_of_a_table_are_no_palette(graph):
    part = graph("(int64[3] x) => (float[3,8] y) { y = Gather(w, x) }", w=np.zeros((6, 8), "f4"))
    assert not any(find_palette(n) for n in part.graph)
