"""A part with other ports than its contract states, or with a shape left open, is EV106."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.validate import validate


def refused(model, *words):
    with pytest.raises(JobFault) as caught:
        validate(model)
    assert caught.value.code == "EV106"
    text = f"{caught.value.what} {caught.value.why}"
    assert all(word in text for word in words), text


@pytest.fixture
def model(micro_model):
    return micro_model.clone()


def test_the_bundled_model_is_valid(tiny_model, model):
    validate(tiny_model)
    validate(model)


def test_a_part_too_few(model):
    del model.parts["embed"]
    refused(model, "parts", "embed")


def test_a_part_too_many(model):
    model.parts["audio"] = model.parts["embed"]
    refused(model, "parts", "audio")


def test_a_classifier_has_one_part(model):
    from dataclasses import replace

    contract = model.contract.model_copy(update={"kind": "classifier"})
    refused(replace(model, contract=contract), "classifier", "vision")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_port_of_another_name(model, side):
    getattr(model.parts["decode"].graph, side)[2].name = "odd"
    refused(model, "decode", side[:-1], "odd")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_port_too_few(model, side):
    getattr(model.parts["prefill"].graph, side).pop()
    refused(model, "prefill", side[:-1])


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_port_too_many(model, side):
    graph = model.parts["vision"].graph
    extra = (
        ir.val("extra", ir.DataType.FLOAT, [1]) if side == "inputs" else graph.node(0).outputs[0]
    )
    getattr(graph, side).append(extra)
    refused(model, "vision", side[:-1], str(extra.name))


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_ports_in_another_order(model, side):
    ports = getattr(model.parts["decode"].graph, side)
    a, b = ports.pop(), ports.pop()
    ports.extend([a, b])
    refused(model, "decode", side[:-1])


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize(
    "shape", [[1, 9, 5], [1, 10, 4], [9, 4], [1, 1, 9, 4], [1, "n", 4], [1, None, 4], None]
)
def test_a_port_of_another_shape(model, side, shape):
    role = "connector" if side == "inputs" else "vision"
    port = getattr(model.parts[role].graph, side)[0]
    port.shape = None if shape is None else ir.Shape(shape)
    refused(model, role, side[:-1], "image_features", "(1, 9, 4)")


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.DOUBLE, None])
def test_a_port_of_another_type(model, side, dtype):
    role = "connector" if side == "inputs" else "vision"
    port = getattr(model.parts[role].graph, side)[0]
    port.type = None if dtype is None else ir.TensorType(dtype)
    refused(model, role, side[:-1], "FLOAT")


@pytest.mark.parametrize("shape", [None, ["n", 8], [None, 8], [-1, 8]])
def test_a_value_inside_without_static_shape(model, shape):
    value = model.parts["prefill"].graph.node(5).outputs[0]
    value.shape = None if shape is None else ir.Shape(shape)
    refused(model, "prefill", str(value.name), "no static shape")


def test_an_optional_output_left_out_is_no_value(model, graph, ort):
    """ONNX writes a skipped output as an empty name; it has no shape because there is nothing."""
    text = """(float[1,3,6,6] pixel_values) => (float[1,9,4] image_features) {
        a, gone = Dropout(pixel_values) b = Conv<strides = [2, 2]>(a, patch)
        c = Reshape(b, rows) image_features = Transpose<perm = [0, 2, 1]>(c) }"""
    old = model.parts["vision"].graph.initializers
    part = graph(text, **{k: old[k].const_value.numpy() for k in ("patch", "rows")})
    skipped = part.graph.node(0).outputs[1]
    skipped.name, skipped.shape, skipped.type = "", None, None
    model.parts["vision"] = part
    validate(model)
