"""Packages that are broken or hostile: told in three lines, and nothing outside is read."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.ops import OPS
from edgevlm.runtimes.coreml.ops.forms import Refused

X = np.arange(20, dtype=np.float32).reshape(4, 5)
WEIGHT = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def good(emit) -> Path:
    return emit(lambda mb, x: mb.relu(x=mb.linear(x=x, weight=WEIGHT)), {"x": X})


@pytest.fixture
def package(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "m.mlpackage"))


def data(package: Path, name: str = "") -> Path:
    return package / "Data" / "com.apple.CoreML" / name


def refused(package: Path, why: str, code: str = "EV304") -> JobFault:
    with pytest.raises(JobFault, match=why) as caught:
        MilProgram(package).call("main", {"x": X})
    assert caught.value.code == code and all(caught.value.lines())
    return caught.value


def edited(package: Path, change) -> Path:
    """The package with its protobuf changed."""
    from coremltools.proto import Model_pb2

    spec, path = Model_pb2.Model(), data(package, "model.mlmodel")
    spec.ParseFromString(path.read_bytes())
    change(spec)
    path.write_bytes(spec.SerializeToString())
    return package


def block(spec):
    return spec.mlProgram.functions["main"].block_specializations["CoreML8"]


def op_named(spec, kind: str):
    return next(op for op in block(spec).operations if op.type == kind)


def blob(spec):
    return next(
        op.attributes["val"].blobFileValue
        for op in block(spec).operations
        if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue"
    )


def test_a_good_one_runs(package):
    found = MilProgram(package).call("main", {"x": X})
    np.testing.assert_allclose(found["out0"], np.maximum(X @ WEIGHT.T, 0), rtol=1e-5)


def manifest(package: Path, text: str) -> Path:
    (package / "Manifest.json").write_text(text)
    return package


def names(path: object) -> str:
    return json.dumps({"itemInfoEntries": {"a": {"path": path}}, "rootModelIdentifier": "a"})


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1, 2]", "[" * 100_000, names(7), names(None), '{"itemInfoEntries": []}'],
)
def test_a_manifest_that_names_no_model(package, text):
    refused(manifest(package, text), "Manifest.json names? ?|Manifest.json does not name")


@pytest.mark.parametrize(
    "path", ["../../secret", "/etc/passwd", "com.apple.CoreML", "", "nul\0l", "x" * 5000, "none"]
)
def test_a_model_that_is_no_file_of_the_package(package, path):
    (package.parent / "secret").write_bytes(b"of somebody else")
    refused(manifest(package, names(path)), "no file of the package|embedded null|too long")


def test_a_link_that_leads_out(package, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"of somebody else")
    data(package, "model.mlmodel").unlink()
    data(package, "model.mlmodel").symlink_to(secret)
    refused(package, "no file of the package")


def test_no_package_at_all(tmp_path):
    refused(tmp_path / "none.mlpackage", "No such file")
    (tmp_path / "file.mlpackage").write_bytes(b"")
    refused(tmp_path / "file.mlpackage", "Not a directory")


def test_a_manifest_without_end(package):
    refused(manifest(package, " " * (1 << 20) + "x"), "larger than 1 MiB")


def test_a_model_that_is_no_protobuf(package):
    data(package, "model.mlmodel").write_bytes(b"\xff" * 100)
    refused(package, "no Core ML model")


def spoil(**fields):
    def change(spec):
        for name, value in fields.items():
            setattr(spec, name, value)

    return change


def no_program(spec):
    spec.neuralNetwork.SetInParent()


def no_function(spec):
    spec.mlProgram.functions.clear()


def unknown_opset(spec):
    spec.mlProgram.functions["main"].opset = "CoreML99"


def unknown_type(spec):
    op_named(spec, "relu").outputs[0].type.tensorType.dataType = 13  # bfloat16


def too_large(spec):
    for size in op_named(spec, "relu").outputs[0].type.tensorType.dimensions:
        size.constant.size = 2**40


def wrong_rank(spec):
    op_named(spec, "relu").outputs[0].type.tensorType.rank = 7


def no_such_output(spec):
    block(spec).outputs[0] = "nowhere"


def no_such_input(spec):
    op_named(spec, "relu").inputs["x"].arguments[0].name = "nowhere"


def later_input(spec):
    op_named(spec, "linear").inputs["x"].arguments[0].name = "relu_0"


def given_twice(spec):
    op_named(spec, "relu").outputs[0].name = "x"


def no_value(spec):
    del op_named(spec, "const").attributes["val"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (no_program, "neuralNetwork and no ML program"),
        (spoil(specificationVersion=99), "specification is 99"),
        (no_function, "has no function"),
        (unknown_opset, "opset 'CoreML99'"),
        (unknown_type, "data type 13"),
        (too_large, "more than"),
        (wrong_rank, "rank 7 with 2 sizes"),
        (no_such_output, "'nowhere' is given by no op"),
        (no_such_input, "'nowhere', which nothing before it gives"),
        (later_input, "which nothing before it gives"),
        (given_twice, "'x' is given twice"),
        (no_value, "a constant without a value"),
    ],
)
def test_a_program_that_is_none(package, change, why):
    refused(edited(package, change), why)


def test_a_result_that_is_not_what_the_program_says(package):
    def change(spec):
        op_named(spec, "relu").outputs[0].type.tensorType.dimensions[0].constant.size = 3

    fault = refused(edited(package, change), r"gives \[4, 6\] and the program says", "EV307")
    assert "relu" in fault.what and "function main" in fault.what


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("@model_path/../../../../secret", "no file of the package"),
        ("@model_path//etc/passwd", "no file of the package"),
        ("/etc/passwd", "said to be at"),
        ("@model_path/weights/none.bin", "no file of the package"),
    ],
)
def test_weights_that_are_elsewhere(package, name, why):
    (package.parent / "secret").write_bytes(b"\0" * 1000)
    refused(edited(package, lambda spec: setattr(blob(spec), "fileName", name)), why)


@pytest.mark.parametrize("offset", [0, 1, 63, 65, 2**20, 2**63])
def test_weights_at_an_offset_that_is_none(package, offset):
    change = edited(package, lambda spec: setattr(blob(spec), "offset", offset))
    refused(change, f"no tensor at offset {offset}")


@pytest.mark.parametrize(
    ("place", "packed", "why"),
    [
        (0, struct.pack("<I", 1), "no tensor at offset"),  # the sentinel
        (4, struct.pack("<I", 1), "has fp16, the program says fp32"),
        (4, struct.pack("<I", 99), "has type 99"),
        (8, struct.pack("<Q", 4), "has 4 bytes"),
        (16, struct.pack("<Q", 2**62), "ends before"),
    ],
)
def test_weights_that_say_something_else(package, place, packed, why):
    path = data(package, "weights/weight.bin")
    spoiled = bytearray(path.read_bytes())
    spoiled[64 + place : 64 + place + len(packed)] = packed
    path.write_bytes(spoiled)
    refused(package, why)


@pytest.mark.parametrize("size", [0, 10, 63])
def test_weights_that_are_cut(package, size):
    path = data(package, "weights/weight.bin")
    path.write_bytes(path.read_bytes()[:size])
    refused(package, "no blob file|mmap an empty file|no tensor at offset")


def a_string(spec):
    op_named(spec, "relu").outputs[0].type.tensorType.dataType = 2


def no_number(spec):
    """The axis of a softmax is infinite."""
    op = op_named(spec, "relu")
    op.type = "softmax"
    value = op.inputs["axis"].arguments.add().value
    value.type.tensorType.dataType = 11  # fp32
    value.immediateValue.tensor.floats.values.append(float("inf"))


def a_word(spec):
    """Among the tensors of a concat."""
    op = op_named(spec, "relu")
    op.type = "concat"
    op.inputs["values"].CopyFrom(op.inputs["x"])
    del op.inputs["x"]
    value = op.inputs["values"].arguments.add().value
    value.type.tensorType.dataType = 2
    value.immediateValue.tensor.strings.values.append("word")
    value = op.inputs["axis"].arguments.add().value
    value.type.tensorType.dataType = 23  # int32
    value.immediateValue.tensor.ints.values.append(0)


@pytest.mark.parametrize("change", [a_string, no_number, a_word])
def test_kinds_that_an_op_does_not_take_are_told(package, change):
    with pytest.raises(JobFault, match=r"EV30[347] .*relu") as caught:
        MilProgram(edited(package, change)).call("main", {"x": X})
    assert all(caught.value.lines())


def test_a_link_beside_the_weights_that_leads_nowhere(package):
    data(package, "weights/stray.bin").symlink_to("nowhere")
    assert MilProgram(package).call("main", {"x": X})


@pytest.mark.parametrize("kind", ["add", "matmul", "einsum"])
def test_rows_that_would_make_a_table_that_nothing_holds(kind):
    """Views of one number each; what they make is told before it is made."""
    row, column = (torch.zeros(()).expand(*sizes) for sizes in ((1, 2**16), (2**16, 1)))
    given = {
        "add": {"x": column, "y": row},
        "matmul": {"x": column, "y": row},
        "einsum": {"values": [column, row], "equation": "ab,bc->ac"},
    }[kind]
    with pytest.raises(Refused, match="a tensor of"):
        OPS[kind](**given)


def test_lists_that_would_make_one():
    values = [torch.zeros(()).expand(2**16, 2**4)] * 2**11
    for op in ("concat", "stack"):
        with pytest.raises(Refused, match="a tensor of"):
            OPS[op](values=values, axis=0)
