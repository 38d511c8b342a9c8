"""Which node of the graph every call of an exported program is of; training carries no names."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.node_key import NODE_KEY  # noqa: E402
from edgevlm.compiler.to_torch import Dialect, to_torch  # noqa: E402
from edgevlm.compiler.to_torch.exported import exported_program  # noqa: E402

GRAPH = """(float[1,3,4] x) => (float[1,3,2] y) {
  up = MatMul(x, w)
  shifted = Add(up, b)
  bent = Gelu(shifted)
  y = Softmax<axis=-1>(bent)
}"""


@pytest.fixture
def part(graph):
    found = graph(GRAPH, w=np.ones((4, 2), np.float32), b=np.zeros(2, np.float32))
    for node, name in zip(found.graph, ("up", "shift", "bend", "share"), strict=True):
        node.name = name
    return found


def called(program):
    return {
        str(node.target).split(".")[1]: node.meta.get("custom", {}).get(NODE_KEY)
        for node in program.graph.nodes
        if node.op == "call_function"
    }


def test_calls_go_by_their_nodes(part, micro_model):
    found = called(exported_program("vision", part, micro_model.contract, Dialect()))
    assert found["matmul"] == "up" and found["add"] == "shift"
    assert found["gelu"] == "bend" and found["softmax"] == "share"


def test_a_bias_goes_by_its_product(part, micro_model):
    found = called(exported_program("vision", part, micro_model.contract, Dialect(linear=True)))
    assert found == {"linear": "up", "gelu": "bend", "softmax": "share"}


def test_a_program_without_names_computes_the_same(part, micro_model):
    program = exported_program("vision", part, micro_model.contract, Dialect())
    x = torch.arange(12.0).reshape(1, 3, 4)
    (named,) = program.module()(x)
    torch.testing.assert_close(named, to_torch(part)({"x": x})["y"])


def test_a_part_that_is_trained_carries_none(part):
    net = to_torch(part)
    assert [step.node for step in net.steps] == ["up", "shift", "bend", "share"]
    with torch.fx.traceback.preserve_node_meta():
        program = torch.export.export(net, ({"x": torch.zeros(1, 3, 4)},), strict=False)
    assert set(called(program).values()) == {None}
