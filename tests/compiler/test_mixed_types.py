"""Inputs of two types where a node takes one: found by ONNX's own definitions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.mixed_types import check_types, mixed

BOTH = "float[2,3] x, float16[2,3] h, int64[2] i, bool[2,3] c"


def first(graph, body, more=""):
    """The first node that has something mixed, told; outputs get the types that are wanted."""
    part = graph(f"({BOTH}) => (float16[2,3] y{more}) {{ {body} }}")
    told = ((node.name, mixed(node, 23)) for node in part.graph)
    return next(((name, why) for name, why in told if why), None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("[a] y = Add(h, x)", "h is FLOAT16 and x is FLOAT"),
        ("[a] y = Add(x, h)", "x is FLOAT and h is FLOAT16"),
        ("[c] y = Concat<axis = 0>(h, h, x)", "h is FLOAT16 and x is FLOAT"),
        ("[w] y = Where(c, h, x)", "h is FLOAT16 and x is FLOAT"),
        ("[m] z = MatMul(h, h) [n] y = Clip(h, , x)", "h is FLOAT16 and x is FLOAT"),
        ("[l] y = LayerNormalization(h, x)", "h is FLOAT16 and x is FLOAT"),
        ("[r] y = Relu(x)", "x is FLOAT and y is FLOAT16"),
        ("[r] y = Resize(h, , h)", "h is FLOAT16, which Resize does not take"),
        ("[w] y = Where(x, h, h)", "x is FLOAT, which Where does not take"),
        ("[s] y = Reshape(h, x)", "x is FLOAT, which Reshape does not take"),
    ],
)
def test_what_does_not_fit_is_named(graph, body, why):
    assert first(graph, body)[1] == why


@pytest.mark.parametrize(
    "body",
    [
        "[a] y = Add(h, h)",
        "[c] y = Cast<to = 10>(x)",
        "[w] y = Where(c, h, h)",
        "[g] y = Gather(h, i)",
        "[l] y = CastLike(x, h)",
        "[n] y = RMSNormalization(x, h)",  # the sum in one type, the weight in another
        "[q] q = QuantizeLinear<output_dtype = 3>(x, h) [d] y = DequantizeLinear(q, h)",
        "[r] y = Resize(h, , x)",
        "[p] y = Pow(h, x)",
        "[o] y = Odd(h, x)",  # nobody knows
    ],
)
def test_types_that_may_differ_do(graph, body):
    assert first(graph, body) is None


def test_the_domain_of_others_is_theirs(graph):
    assert first(graph, "[o] y = ai.elsewhere.Add(h, x)") is None


@pytest.mark.parametrize(("opset", "fits"), [(19, False), (23, True)])
def test_the_definition_is_that_of_the_opset(graph, opset, fits):
    """x and its scale have one type in opset 19."""
    part = graph(f"({BOTH}) => (int8[2,3] y) {{ [q] y = QuantizeLinear(x, h) }}", opset=opset)
    assert (mixed(part.graph.node(0), opset) is None) == fits
    if fits:
        check_types("vision", part)
    else:
        with pytest.raises(JobFault, match="EV501 vision/q has inputs of two types: x is FLOAT"):
            check_types("vision", part)


def test_a_whole_model_is_of_one_type(tiny_model, micro_model):
    for model in (tiny_model, micro_model):
        for role, part in model.parts.items():
            check_types(role, part)


def test_a_weight_of_another_type_is_found(micro_model):
    part = micro_model.parts["connector"].clone()
    bias = part.graph.initializers["bias"]
    bias.const_value = ir.tensor(bias.const_value.numpy().astype(np.float16), name="bias")
    bias.type = ir.TensorType(ir.DataType.FLOAT16)
    with pytest.raises(JobFault, match="EV501 connector/shift") as caught:
        check_types("connector", part)
    assert "bias is FLOAT16" in caught.value.why
