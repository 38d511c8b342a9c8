"""Blocks that do not divide the inputs: cut in two, the same numbers; what cannot be is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevlm.compiler.drift import measure
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.whole_blocks import whole_blocks
from edgevlm.passes.precision.cast_half import CastHalf
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights

RNG = np.random.default_rng(0)
TEXT = """(float[1,7,100] x) => (float[1,7,96] y, float[1,7,96] z) {
    [a] y = MatMul(x, w) [b] z = MatMul(x, w) }"""
W = RNG.normal(size=(100, 96)).astype(np.float32)
X = RNG.normal(size=(1, 7, 100)).astype(np.float32)


def model_of(graph, solo, block, bits=4):
    return QuantizeWeights(min_elements=1, bits=bits, block=block)(solo(graph(TEXT, w=W))).model


def sizes(part):
    """(inputs, block) of every DequantizeLinear."""
    nodes = [n for n in part.graph if n.op_type == "DequantizeLinear"]
    return sorted((int(n.inputs[0].shape[0]), n.attributes["block_size"].value) for n in nodes)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("block", "products"), [(32, 4), (64, 4), (99, 4), (100, 2), (128, 2)])
def test_the_same_numbers(graph, solo, ort, block, products, bits):
    part = model_of(graph, solo, block, bits).parts["vision"]
    written = whole_blocks(part)
    assert sum(n.op_type == "MatMul" for n in written.graph) == products
    assert (written is part) == (block >= 100)
    wanted, found = ort(part, x=X), ort(written, x=X)
    for name in "yz":
        assert measure(wanted[name], found[name], name).sqnr_db > 100
    if products == 4:
        rest = 100 % block
        assert sizes(written) == [(rest, rest), (100 - rest, block)]
        onnx.checker.check_model(ir.to_proto(written), full_check=True)


def test_names_stay_and_so_does_the_part(graph, solo):
    part = model_of(graph, solo, 64).parts["vision"]
    before = [str(n.name) for n in part.graph]
    written = whole_blocks(part)
    assert [str(n.name) for n in part.graph] == before
    assert [v.name for v in written.graph.outputs] == ["y", "z"]
    assert {"a", "b"} <= {str(n.name) for n in written.graph if n.op_type == "Add"}
    assert whole_blocks(written) is written


def test_weights_that_two_products_share_are_cut_once(graph, solo):
    written = whole_blocks(model_of(graph, solo, 64).parts["vision"])
    assert sum(n.op_type == "DequantizeLinear" for n in written.graph) == 2


def test_scales_of_float16_stay_float16(graph, solo, ort):
    step = CastHalf(cache=False)
    step.calibration = Reference([{"vision": {"x": X}}], [], [])
    part = step(model_of(graph, solo, 64)).model.parts["vision"]
    written = whole_blocks(part)
    kinds = {n.outputs[0].dtype.name for n in written.graph if n.op_type in ("MatMul", "Add")}
    assert kinds == {"FLOAT16"}
    onnx.checker.check_model(ir.to_proto(written), full_check=True)
    assert measure(ort(part, x=X)["y"], ort(written, x=X)["y"], "y").sqnr_db > 60


def refused(part, *words):
    with pytest.raises(JobFault, match="EV303") as caught:
        whole_blocks(part)
    assert all(word in caught.value.what for word in words)
    assert "--quant w4a16:block=0" in caught.value.fix


def test_a_short_block_of_a_gemm_is_refused(graph, solo):
    text = "(float[7,100] x) => (float[7,96] y) { [a] y = Gemm(x, w) }"
    model = QuantizeWeights(min_elements=1, bits=4, block=64)(solo(graph(text, w=W))).model
    refused(model.parts["vision"], "a has", "64 for 100")


@pytest.mark.parametrize("axis", [1, -1])
def test_short_blocks_along_outputs_are_refused(graph, axis):
    """Cut along the inputs, they would be other numbers."""
    part = graph(
        f"""(float[7,6] x) => (float[7,10] y) {{
        [d] w = DequantizeLinear<axis = {axis}, block_size = 4>(c, s) [a] y = MatMul(x, w) }}""",
        c=np.ones((6, 10), np.int8), s=np.ones((6, 3), np.float32),
    )  # fmt: skip
    refused(part, "a has", "4 for 10")


def test_blocks_along_the_first_axis_by_its_other_name(graph, ort):
    part = graph(
        """(float[7,10] x) => (float[7,6] y) {
        [d] w = DequantizeLinear<axis = -2, block_size = 4>(c, s) [a] y = MatMul(x, w) }""",
        c=RNG.integers(-8, 8, (10, 6), np.int8), s=RNG.uniform(1, 2, (3, 6)).astype(np.float32),
    )  # fmt: skip
    written = whole_blocks(part)
    assert sizes(written) == [(2, 2), (8, 4)]
    x = RNG.normal(size=(7, 10)).astype(np.float32)
    np.testing.assert_allclose(ort(written, x=x)["y"], ort(part, x=x)["y"], rtol=1e-4, atol=1e-4)
