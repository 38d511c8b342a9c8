"""Rows of the builder's log and of the inspector's JSON."""

from __future__ import annotations

import json

import pytest

from edgevlm.runtimes.tensorrt.on_device.layers import rows_of_inspector, rows_of_log

#: a line as TensorRT-RTX 1.7.1 printed it, cut short in the middle of its lists
LINE = (
    "Name: to_out_myl0_7, LayerType: gemm, Inputs: [ { Name: __myl[0], Dimensions: [1,64,64], "
    "Strides: [4096,64,1], StrideOrder: [2,1,0], Datatype: Int8, Format: (Arbitrary) Format with "
    "stride order = [2,1,0] }], Constants: [ { Name: c, Dimensions: [1,64,64], Strides: [1], "
    "Datatype: Int8, Format: x }, { Name: alpha, Dimensions: [1], Datatype: Float }], Outputs: [ "
    "{ Name: o, Dimensions: [1,64,64], Datatype: Half, Format: y }], TacticName: __myelin_CASK, "
    "StreamId: 0, Metadata: [ONNX Layer: to_out][ONNX Layer: DequantizeLinear_30]"
)
ROW = {
    "name": "to_out_myl0_7",
    "type": "gemm",
    "inputs": ["Int8[1,64,64]"],
    "consts": ["Int8[1,64,64]", "Float[1]"],
    "outputs": ["Half[1,64,64]"],
    "tactic": "__myelin_CASK",
    "onnx": ["to_out", "DequantizeLinear_30"],
}


def test_a_line_of_the_log_is_a_row():
    assert rows_of_log(["Layers:\n" + LINE]) == [ROW]


def test_a_layer_that_reads_constants_only():
    line = LINE.replace(LINE[LINE.index("[ { Name: __myl") : LINE.index(", Constants")], "[]")
    [row] = rows_of_log([line])
    assert row["inputs"] == [] and row["consts"] == ROW["consts"]


def test_a_layer_without_constants():
    line = LINE[: LINE.index(", Constants")] + LINE[LINE.index(", Outputs") :]
    [row] = rows_of_log([line])
    assert row["consts"] == [] and row["outputs"] == ROW["outputs"]


def test_the_last_listing_counts():
    later = LINE.replace("to_out_myl", "later_myl")
    assert [r["name"] for r in rows_of_log([f"Layers:\n{LINE}", f"Layers:\n{later}"])] == [
        "later_myl0_7"
    ]


def test_other_messages_are_no_rows():
    assert rows_of_log(["LayerType: nothing", "Name: x", ""]) == []


def test_a_real_log_has_a_row_a_layer(built):
    rows = built().rows
    assert len(rows) >= 8 and all(r["name"] and r["type"] and r["outputs"] for r in rows)
    assert any(r["onnx"] == ["norm"] for r in rows)


def engine(*layers):
    return json.dumps({"Layers": list(layers), "Bindings": ["x"]})


def layer(format_key, told, **more):
    tensor = {"Name": "x", "Dimensions": [1, 64], format_key: told}
    return {"Name": "a", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [], **more}


@pytest.mark.parametrize(
    "told, kind",
    [
        ("Row major linear FP16 format", "Half"),
        ("Row major Int8 format", "Int8"),
        ("Thirty-two wide channel vectorized row major Int8 format", "Int8"),
        ("Row major linear FP32", "Float"),
        ("Row major linear BFP16 format", "BFloat16"),
        ("Half", "Half"),
        ("FP8", "FP8"),
        ("UInt8", "UInt8"),
        ("N/A due to dynamic shapes", "?"),
    ],
)
@pytest.mark.parametrize("key", ["Datatype", "Format/Datatype"])
def test_the_type_is_in_the_format(key, told, kind):
    [row] = rows_of_inspector(engine(layer(key, told)))
    assert row["inputs"] == [f"{kind}[1,64]"]


def test_onnx_names_are_in_the_metadata():
    names = "[ONNX Layer: /a/MatMul]\x1e[ONNX Layer: /b]"
    [row] = rows_of_inspector(engine(layer("Datatype", "Half", Metadata=names, TacticName="t")))
    assert row["onnx"] == ["/a/MatMul", "/b"] and row["tactic"] == "t"


def test_layers_of_an_engine_without_details_are_names():
    [row] = rows_of_inspector(engine("only a name"))
    assert row["name"] == "only a name" and row["type"] == "" and row["inputs"] == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}', "{"])
def test_what_is_no_listing_is_refused(text):
    with pytest.raises(ValueError):
        rows_of_inspector(text)
