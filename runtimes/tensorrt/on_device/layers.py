"""The layers of a built engine as rows, from the builder's log or from the engine inspector.

TensorRT-RTX 1.7.1 prints every layer of the engine at VERBOSE, a line each (seen):

    Name: _gemm_mha_v2_myl0_8, LayerType: kgen, Inputs: [ { Name: .., Dimensions: [3,196,64],
    Strides: [..], StrideOrder: [..], Datatype: Half, Format: (..) .. }, ..], Constants: [..],
    Outputs: [..], TacticName: .., StreamId: 0, Metadata: [ONNX Layer: /bl.0/MatMul_1][ONNX ..]

The inspector gives the same as JSON; plain TensorRT has the type inside the format there
("Format/Datatype": "Row major linear FP16 format"). An engine that was not built with DETAILED
verbosity has layers that are names and nothing else; they stay rows, without types.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable

from edgevlm.runtimes.tensorrt.on_device.products import ONNX_NAME

__all__ = ["TENSORS", "TEXTS", "Row", "rows_of_inspector", "rows_of_log"]

#: name, type, tactic: text; inputs, consts, outputs: ["Half[1,64,64]", ..]; onnx: node names
Row = Dict[str, Any]
TEXTS, TENSORS = ("name", "type", "tactic"), ("inputs", "consts", "outputs", "onnx")

LINE = re.compile(r"^\s*Name: (.*?), LayerType: ([^,]*), (Inputs: .*)$")
#: a list of tensors ends where a brace and a bracket close; brackets alone are dimensions
LISTS = {
    key: re.compile(key + r": \[(\s*|.*?\}\s*)\]") for key in ("Inputs", "Constants", "Outputs")
}
TENSOR = re.compile(r"Dimensions: \[([^\]]*)\].*?(?:Format/)?Datatype: ([^,}]+)")
TACTIC = re.compile(r"TacticName: ([^,]*)")
#: longer names first: FP16 is in BFP16, and Int8 in UInt8
TYPES = (
    ("BFloat16", "BF16|BFloat16|BFP16"),
    ("Half", "Half|FP16|Float16"),
    ("FP8", "FP8|Float8"),
    ("FP4", "FP4|Float4"),
    ("Float", "Float|FP32|Float32"),
    ("Int4", "Int4|INT4"),
    ("UInt8", "UInt8|UINT8"),
    ("Int8", "Int8|INT8"),
    ("Int32", "Int32|INT32"),
    ("Int64", "Int64|INT64"),
    ("Bool", "Bool|BOOL"),
)
WORDS = [(name, re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z0-9])")) for name, words in TYPES]


def rows_of_log(messages: Iterable[str]) -> list[Row]:
    """Rows of the last listing of a VERBOSE log; [] where the builder prints none."""
    rows: list[Row] = []
    for message in messages:
        found = [LINE.match(line) for line in message.split("\n") if "LayerType: " in line]
        if message.startswith(("Layers:", "Engine Layer Information")):
            rows = []  # what is listed now is nearer to the engine than what was before
        rows += [_of_line(match) for match in found if match]
    return rows


def _of_line(match: re.Match) -> Row:
    name, kind, rest = match.groups()
    found = {key: words.search(rest) for key, words in LISTS.items()}
    inputs, constants, outputs = (_tensors(at[1]) if at else [] for at in found.values())
    tactic = TACTIC.search(rest)
    return {
        "name": name,
        "type": kind,
        "inputs": inputs,
        "consts": constants,
        "outputs": outputs,
        "tactic": tactic[1] if tactic else "",
        "onnx": ONNX_NAME.findall(rest),
    }


def _tensors(text: str) -> list[str]:
    return [f"{_type(kind)}[{dims}]" for dims, kind in TENSOR.findall(text)]


def _type(text: str) -> str:
    """The type in a format's name; "?" where none is told."""
    return next((name for name, words in WORDS if words.search(text)), "?")


def rows_of_inspector(text: str) -> list[Row]:
    """Rows of IEngineInspector.get_engine_information(JSON), or of trtexec --exportLayerInfo.

    Raises ValueError for what is no JSON of that kind.
    """
    told = json.loads(text)
    layers = told.get("Layers") if isinstance(told, dict) else None
    if not isinstance(layers, list):
        raise ValueError("no list of Layers in it")
    return [_of_layer(layer) for layer in layers]


def _of_layer(layer: Any) -> Row:
    if not isinstance(layer, dict):  # only names: built without DETAILED verbosity
        layer = {"Name": str(layer)}

    def tensors(key: str) -> list[str]:
        told = layer.get(key)
        listed = [t for t in told if isinstance(t, dict)] if isinstance(told, list) else []
        return [f"{_type(_told(t))}{json.dumps(t.get('Dimensions', []))}" for t in listed]

    return {
        "name": str(layer.get("Name", "")),
        "type": str(layer.get("LayerType", "")),
        "inputs": [t.replace(" ", "") for t in tensors("Inputs")],
        "consts": [t.replace(" ", "") for t in tensors("Constants")],
        "outputs": [t.replace(" ", "") for t in tensors("Outputs")],
        "tactic": str(layer.get("TacticName", "")),
        "onnx": ONNX_NAME.findall(str(layer.get("Metadata", ""))),
    }


def _told(tensor: dict[str, Any]) -> str:
    return str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
