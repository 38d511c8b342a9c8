"""cut and join: what is cut off can be shortened without a word to the rest of the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.axes import analyse, resize
from edgevlm.compiler.axes.cut import cut, join
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session


@pytest.fixture
def model() -> ir.Model:
    """x [1,6,4] -> Relu -> a;  y = a + Tanh(a), so that `a` is read twice."""
    x = ir.Value(name="x", shape=ir.Shape([1, 6, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    relu = ir.node("Relu", [x], name="relu")
    tanh = ir.node("Tanh", [relu.outputs[0]], name="tanh")
    nodes = [relu, tanh]
    for node, name in zip(nodes, ("a", "b"), strict=True):
        node.outputs[0].name = name
        node.outputs[0].shape, node.outputs[0].dtype = ir.Shape([1, 6, 4]), ir.DataType.FLOAT
    graph = ir.Graph(
        [x], [n.outputs[0] for n in nodes], nodes=nodes, opset_imports={"": 23}, name="g"
    )
    return ir.Model(graph, ir_version=10)


def test_only_the_uses_that_were_named_read_the_stand_in(model) -> None:
    graph = model.graph
    a = next(n for n in graph if n.name == "relu").outputs[0]
    tanh = next(n for n in graph if n.name == "tanh")
    stand_in = cut(graph, a, [(tanh, 0)])
    assert tanh.inputs[0] is stand_in and stand_in in graph.inputs
    assert graph.outputs[0] is a
    join(graph, stand_in, a)
    assert tanh.inputs[0] is a and [v.name for v in graph.inputs] == ["x"]


def test_the_far_side_is_shortened_and_the_near_side_is_not(model) -> None:
    graph = model.graph
    a = next(n for n in graph if n.name == "relu").outputs[0]
    stand_in = cut(graph, a, [(next(n for n in graph if n.name == "tanh"), 0)])
    axes = analyse(graph)
    resize(axes, axes.of(stand_in)[1], 2)
    assert list(a.shape) == [1, 6, 4] and list(graph.outputs[1].shape) == [1, 2, 4]

    build = GraphBuilder(model, "pick")
    join(graph, stand_in, build("Gather", a, build.const([5, 1]), axis=1))
    build.finish()
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    near, far = open_session(model).run(None, {"x": x})
    np.testing.assert_array_equal(near, np.maximum(x, 0))
    np.testing.assert_allclose(far, np.tanh(np.maximum(x, 0))[:, [5, 1]], rtol=1e-6)
