"""Quantise and dequantise as TensorRT's parser reads them: zero points, axes, blocks, opsets."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.passes.quantize.quantize_activations import QuantizeActivations
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.tensorrt.facts import facts
from edgevlm.runtimes.tensorrt.linear import BLOCKS_OPSET, as_parsed, least_opset

X = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
CODES = {
    "int8": (3, ir.DataType.INT8, np.int8),
    "float8e4m3fn": (17, ir.DataType.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
}


def nodes(part, op):
    return [n for n in part.graph if n.op_type == op]


def pair(graph, name="int8", scale=0.1, **words):
    """x -> codes -> y, as the passes write it."""
    number = CODES[name][0]
    axis = f", axis = {words['axis']}" if words else ""
    text = f"""(float[2,8] x) => (float[2,8] y) {{
        [q] a = QuantizeLinear<output_dtype = {number}{axis}>(x, s)
        [d] y = DequantizeLinear{axis.replace(", ", "<") + ">" if axis else ""}(a, s) }}"""
    return graph(text, s=np.float32(scale))


@pytest.mark.parametrize("name", CODES)
def test_a_zero_point_of_zeros_says_the_type(graph, ort, name):
    part = pair(graph, name)
    made = as_parsed(part)
    (node,), (back,) = nodes(made, "QuantizeLinear"), nodes(made, "DequantizeLinear")
    zero = node.inputs[2]
    assert zero.dtype == CODES[name][1] and tuple(zero.shape) == ()
    assert not zero.const_value.numpy().astype(np.float32).any()
    assert "output_dtype" not in node.attributes and len(back.inputs) == 2
    made.opset_imports[""] = 19
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    np.testing.assert_array_equal(ort(made, x=X)["y"], ort(part, x=X)["y"])
    assert len(nodes(part, "QuantizeLinear")[0].inputs) == 2, "the part itself stays"


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(
    ("steps", "axis"), [(8, 1), (2, 0), (8, -1)], ids=["columns", "rows", "last"]
)
def test_what_is_computed_has_one_scale_a_tensor(graph, ort, name, steps, axis):
    """And a product beside it: x / s is rounded, and what comes back is times s."""
    scale = 2.0 ** -np.arange(1, steps + 1)  # dividing by it and multiplying are the same number
    part = pair(graph, name, scale, axis=axis)
    made = as_parsed(part)
    for node in (*nodes(made, "QuantizeLinear"), *nodes(made, "DequantizeLinear")):
        assert node.inputs[1].const_value.numpy() == 1 and "axis" not in node.attributes
    before, behind = nodes(made, "Mul")
    assert before.outputs[0] is nodes(made, "QuantizeLinear")[0].inputs[0]
    assert behind.outputs[0] is made.graph.outputs[0] and made.graph.outputs[0].name == "y"
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    np.testing.assert_array_equal(ort(made, x=X)["y"], ort(part, x=X)["y"])


def test_an_axis_that_is_left_out_is_the_one_of_onnx(graph, ort):
    part = graph(
        "(float[2,8] x) => (float[2,3] y) { [d] w = DequantizeLinear(c, s) [m] y = MatMul(x, w) }",
        c=np.arange(24, dtype=np.int8).reshape(8, 3), s=np.float32([1, 2, 3]),
    )  # fmt: skip
    made = as_parsed(part)
    assert nodes(made, "DequantizeLinear")[0].attributes["axis"].value == 1
    np.testing.assert_array_equal(ort(made, x=X)["y"], ort(part, x=X)["y"])


def test_zero_points_of_one_kind_are_one_constant(graph):
    text = """(float[2,8] x) => (float[2,8] y, float[2,8] z, float[2,8] w) {
        a = QuantizeLinear<output_dtype = 3>(x, s) b = QuantizeLinear<output_dtype = 3>(x, t)
        c = QuantizeLinear<output_dtype = 17>(x, s) y = DequantizeLinear(a, s)
        z = DequantizeLinear(b, t) w = DequantizeLinear(c, s) }"""
    made = as_parsed(graph(text, s=np.float32(1), t=np.float32(2)))
    zeros = [n.inputs[2] for n in nodes(made, "QuantizeLinear")]
    assert zeros[0] is zeros[1] and zeros[2] is not zeros[0]
    assert len(made.graph.initializers) == 4


@settings(max_examples=40)
@given(blocks=st.integers(1, 4), size=st.sampled_from([2, 8, 32]), asked=st.sampled_from([0, 5]))
def test_blocks_are_as_long_as_the_parser_finds_them(graph, ort, blocks, size, asked):
    """One block of all inputs is written as long as they are, whatever length was asked for."""
    inputs = blocks * size
    rng = np.random.default_rng(0)
    length = size + asked * (blocks == 1)
    part = graph(
        f"""(float[2,{inputs}] x) => (float[2,4] y) {{
        [d] w = DequantizeLinear<axis = 0, block_size = {length}>(c, s) [m] y = MatMul(x, w) }}""",
        c=rng.integers(-8, 8, (inputs, 4)).astype(ml_dtypes.int4),
        s=rng.uniform(1, 2, (blocks, 4)).astype(np.float32),
    )
    made = as_parsed(part)
    (node,) = nodes(made, "DequantizeLinear")
    assert node.attributes["block_size"].value == size
    assert node.attributes["axis"].value == 0
    x = rng.normal(size=(2, inputs)).astype(np.float32)
    steps = part.graph.initializers["s"].const_value.numpy().repeat(size, 0)
    wanted = x @ (part.graph.initializers["c"].const_value.numpy().astype(np.float32) * steps)
    np.testing.assert_allclose(ort(made, x=x)["y"], wanted, rtol=1e-4, atol=1e-4)


def test_a_short_block_is_not_made_another_one(graph):
    """20 inputs in blocks of 8: three blocks of 7 would be other numbers, and a valid graph."""
    part = graph(
        """(float[2,20] x) => (float[2,4] y) {
        [d] w = DequantizeLinear<axis = 0, block_size = 8>(c, s) [m] y = MatMul(x, w) }""",
        c=np.ones((20, 4), np.int8), s=np.ones((3, 4), np.float32),
    )  # fmt: skip
    assert nodes(as_parsed(part), "DequantizeLinear")[0].attributes["block_size"].value == 8


@pytest.mark.parametrize(
    ("codes", "scale", "opset"),
    [
        (np.int8, (4,), 19),
        (ml_dtypes.float8_e4m3fn, (), 19),
        (ml_dtypes.int4, (4,), BLOCKS_OPSET),
        (np.int8, (2, 4), BLOCKS_OPSET),
    ],
)
def test_the_least_opset(graph, codes, scale, opset):
    block = ", block_size = 4" if len(scale) == 2 else ""
    axis = int(not block)
    part = graph(
        f"""(float[2,8] x) => (float[2,4] y) {{
        [d] w = DequantizeLinear<axis = {axis}{block}>(c, s) [m] y = MatMul(x, w) }}""",
        c=np.ones((8, 4), np.float32).astype(codes), s=np.ones(scale, np.float32),
    )  # fmt: skip
    assert least_opset(part) == opset
    made = as_parsed(part)
    made.opset_imports[""] = opset
    onnx.checker.check_model(ir.to_proto(made), full_check=True)


def test_the_table_of_facts_says_the_same_opset():
    assert facts().limit("int4_opset").value == BLOCKS_OPSET


def test_what_is_not_quantised_is_handed_back(tiny_model):
    assert all(as_parsed(part) is part for part in tiny_model.parts.values())


@pytest.mark.parametrize("number", ["int", "e4m3"])
def test_a_whole_model_computes_the_same_codes(make_micro, micro_probes, number):
    model = make_micro(heads=4, kv_heads=2, width=16)
    steps = [
        QuantizeWeights(min_elements=1, number=number),
        QuantizeActivations(form="tensorrt", number=number),
    ]
    model = apply_unchecked(model, steps, micro_probes)
    seen = observe(model, micro_probes)
    made = {role: as_parsed(part) for role, part in model.parts.items()}
    sides = ReferenceParts(model.parts), ReferenceParts(made)
    for role, drift in compare_parts(*sides, seen, list(model.parts)).items():
        assert drift.sqnr_db == 200, role
    assert sum(len(nodes(part, "QuantizeLinear")) for part in made.values()) > 5
