"""Graphs without weights: everything but the numbers, and nothing from outside the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.bare_graph import load_bare, save_bare
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.weights import WeightWriter, load_graph, save_graph


@pytest.mark.parametrize("role", ["vision", "prefill", "decode"])
def test_what_is_counted_is_the_same(role, tiny_model, tmp_path):
    part = tiny_model.parts[role]
    save_bare(part, tmp_path / "bare.onnx")
    bare = load_bare(tmp_path / "bare.onnx")
    assert count(bare) == count(part)
    assert [n.op_type for n in bare.graph] == [n.op_type for n in part.graph]
    stored = sum(v.const_value.nbytes for v in part.graph.initializers.values())
    assert (tmp_path / "bare.onnx").stat().st_size < stored / 10
    for name, value in bare.graph.initializers.items():
        mine, theirs = value.const_value, part.graph.initializers[name].const_value
        assert (mine.dtype, tuple(mine.shape)) == (theirs.dtype, tuple(theirs.shape))
        small = theirs.nbytes < 1024
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy() if small else 0)


def test_the_model_is_left_as_it_was_and_bytes_repeat(tiny_model, tmp_path):
    part = tiny_model.parts["decode"]
    before = {n: v.const_value for n, v in part.graph.initializers.items()}
    save_bare(part, tmp_path / "a.onnx")
    save_bare(part, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert {n: v.const_value for n, v in part.graph.initializers.items()} == before


def test_no_file_beside_it_is_read(tiny_model, tmp_path):
    """A graph whose weights lie in a file is no bare one."""
    with WeightWriter(tmp_path) as writer:
        save_graph(tiny_model.parts["decode"], tmp_path / "whole.onnx", writer)
    with pytest.raises(JobFault, match="neither in it nor left out") as caught:
        load_bare(tmp_path / "whole.onnx")
    assert caught.value.code == "EV101"
    save_bare(tiny_model.parts["decode"], tmp_path / "bare.onnx")
    with pytest.raises(JobFault) as caught:  # and a bare one is no part to run
        load_graph(tmp_path / "bare.onnx")
    assert caught.value.code == "EV101"


def test_a_tensor_that_claims_a_mountain_is_refused(graph, tmp_path):
    weights = np.ones((64, 64), np.float32)
    part = graph("(float[1,64] x) => (y) { y = MatMul(x, w) }", w=weights)
    huge = ir.ExternalTensor(
        "left-out", 0, 4, ir.DataType.FLOAT, shape=ir.Shape([2**30, 2**30]), name="w"
    )
    part.graph.initializers["w"].const_value = huge
    (tmp_path / "x.onnx").write_bytes(ir.to_proto(part).SerializeToString())
    with pytest.raises(JobFault, match="says it is"):
        load_bare(tmp_path / "x.onnx")


@pytest.mark.parametrize("data", [b"", b"\0" * 50, b"no graph"])
def test_what_is_no_graph_is_told(data, tmp_path):
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(JobFault) as caught:
        load_bare(tmp_path / "x.onnx")
    assert caught.value.code == "EV101"
