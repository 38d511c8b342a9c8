"""Weights in lookup tables in torch: gathered, or as one op, they are ONNX Runtime's numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

import torch

from edgevlm.compiler.to_torch.dialect import GRADIENTS, Dialect
from edgevlm.compiler.to_torch.exported import exported_graph
from edgevlm.compiler.to_torch.part import TorchPart
from edgevlm.passes.quantize.palettise_weights import PalettiseWeights

RNG = np.random.default_rng(0)
OP = Dialect(linear=True, quantised="decomposed", codes="all", tables="op", fold=True)
FORMS = {
    "MatMul": ("(float[2,48] x) => (float[2,40] y) { y = MatMul(x, w) }", (48, 40)),
    "Gemm": ("(float[2,40] x) => (float[2,48] y) { y = Gemm<transB = 1>(x, w) }", (48, 40)),
    "Conv": ("(float[1,6,5,5] x) => (float[1,24,3,3] y) { y = Conv(x, w) }", (24, 6, 3, 3)),
}


@pytest.fixture(params=FORMS)
def part(request, graph, solo):
    text, shape = FORMS[request.param]
    w = RNG.normal(size=shape).astype(np.float32)
    return PalettiseWeights(group=8, min_elements=1)(solo(graph(text, w=w))).model.parts["vision"]


@pytest.mark.parametrize("dialect", [GRADIENTS, OP], ids=["gathered", "op"])
def test_they_are_the_numbers_of_onnx_runtime(part, dialect, ort):
    x = RNG.normal(size=[int(d) for d in part.graph.inputs[0].shape]).astype(np.float32)
    made = TorchPart(part, dialect)({"x": torch.from_numpy(x)})["y"]
    np.testing.assert_allclose(made.detach().numpy(), ort(part, x=x)["y"], rtol=1e-4, atol=1e-4)


def test_an_exported_program_keeps_the_op_and_no_float_weight(part):
    program = exported_graph(part, OP).run_decompositions({})
    called = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert called.count("edgevlm.lut_to_dense.default") == 1
    assert not any("gather" in name or "index_select" in name for name in called)
    floats = [t for t in (*program.state_dict.values(), *program.constants.values())
              if torch.is_tensor(t) and t.is_floating_point()]  # fmt: skip
    assert max(t.numel() for t in floats) <= 6 * 16


def test_the_part_itself_is_left_as_it_was(part):
    before = [n.op_type for n in part.graph]
    TorchPart(part, OP)
    assert [n.op_type for n in part.graph] == before
