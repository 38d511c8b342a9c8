"""What a runtime cannot take is refused in our words: part, node, limit."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.legalise import legalise
from edgevlm.passes.quantize.quantize_weights import QuantizeWeights
from edgevlm.runtimes.base import Capabilities
from edgevlm.runtimes.ort.capabilities import CAPABILITIES


def limits(**changes):
    made = {"opset": 23, "ops": CAPABILITIES.ops, "dtypes": CAPABILITIES.dtypes} | changes
    return Capabilities(**made)


def refused(model, capabilities, *words):
    with pytest.raises(JobFault) as caught:
        legalise(model, "toy", capabilities)
    assert caught.value.code == "EV303"
    text = f"{caught.value.what}; {caught.value.why}"
    assert all(word in text for word in words), text


def test_what_fits_comes_back_as_it_is(tiny_model, micro_model):
    for model in (tiny_model, micro_model, QuantizeWeights()(tiny_model).model):
        assert legalise(model, "toy", limits()) is model


def test_an_opset_that_is_too_new(micro_model):
    refused(micro_model, limits(opset=22), "part vision", "opset 23", "up to 22", "toy")
    legalise(micro_model, "toy", limits(opset=24))


def test_an_op_that_is_not_on_the_list(micro_model):
    node = next(n for n in micro_model.parts["prefill"].graph if n.op_type == "Attention")
    fewer = limits(ops=CAPABILITIES.ops - {"Attention"})
    refused(micro_model, fewer, "part prefill", f"node {node.name}", "ai.onnx::Attention")


def test_an_op_of_another_domain(micro_model):
    part = micro_model.parts["vision"].clone()
    part.graph.node(0).domain = "com.microsoft"
    refused(micro_model.with_parts(vision=part), limits(), "com.microsoft::Conv", "conv")


def test_the_long_name_of_the_default_domain_is_the_default_domain(micro_model):
    part = micro_model.parts["vision"].clone()
    part.graph.node(0).domain = "ai.onnx"
    legalise(micro_model.with_parts(vision=part), "toy", limits())


def test_a_value_inside_of_a_type_it_lacks(solo, graph):
    part = graph("(float[4] x) => (float[4] y) { h = Cast<to = 10>(x) y = Cast<to = 1>(h) }")
    refused(solo(part), limits(dtypes=frozenset({"FLOAT"})), "value h", "FLOAT16", "takes FLOAT")


def test_an_input_of_a_type_it_lacks(micro_model):
    refused(
        micro_model,
        limits(dtypes=frozenset({"FLOAT", "INT64"})),
        "part decode",
        "attention_mask",
        "BOOL",
    )


@pytest.mark.parametrize("dtype", [np.int8, np.float16])
def test_a_stored_weight_of_a_type_it_lacks(solo, graph, dtype):
    """Nothing but the weight has that type: no node's output shows it."""
    part = graph(
        "(float[4] x) => (float[4] y) { r = DequantizeLinear(q, s) y = Mul(x, r) }",
        q=np.ones(4, np.int8), s=np.float32(1),
    )  # fmt: skip
    if dtype == np.float16:
        part = graph(
            "(float[4] x) => (float[4] y) { r = Cast<to = 1>(q) y = Mul(x, r) }",
            q=np.ones(4, dtype),
        )
    name = ir.DataType.from_numpy(np.dtype(dtype)).name
    refused(solo(part), limits(dtypes=frozenset({"FLOAT", "INT64", "BOOL"})), "q", name)


def test_a_body_inside_a_node_is_looked_at_too(solo, graph):
    text = """(bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { a = Mish(x) },
                    else_branch = e () => (float[2] b) { b = Neg(x) }> }"""
    part = graph(text)
    refused(solo(part), limits(ops=frozenset({"If", "Neg"})), "Mish")
