"""Lines for trtexec, and its files read. The files are written after its documented form."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device import trtexec
from edgevlm.runtimes.tensorrt.on_device.plan import read_plan


@pytest.fixture
def part(bundle):
    return read_plan(bundle).parts[0]


def test_a_line_does_what_the_build_does(part):
    words = shlex.split(trtexec.command_of(part, Path("out dir"), "10.3", 2**28))
    assert words[0].endswith("/trtexec") and f"--onnx={part.path}" in words
    assert "--noTF32" in words
    assert "--stronglyTyped" in words and "--memPoolSize=workspace:256" in words
    assert "--exportLayerInfo=out dir/vision.layers.json" in words


def test_strong_typing_is_not_said_from_11_on(part):
    line = trtexec.command_of(part, Path("o"), "11.4.1", None)
    assert "--stronglyTyped" not in line and "memPoolSize" not in line


def test_open_sizes_are_said(part):
    part = replace(part, profile={"x": [[1, 4], [8, 4], [16, 4]]})
    words = shlex.split(trtexec.command_of(part, Path("o"), "10.3", None))
    assert [w for w in words if "Shapes" in w] == [
        "--minShapes=x:1x4", "--optShapes=x:8x4", "--maxShapes=x:16x4"
    ]  # fmt: skip


def written(path, told):
    path.write_text(json.dumps(told))
    return path


def test_its_files_are_read(tmp_path):
    tensor = {"Name": "x", "Dimensions": [1, 4], "Format/Datatype": "Row major Int8 format"}
    layer = {"Name": "fc", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor]}
    [row] = trtexec.read_layers(written(tmp_path / "l.json", {"Layers": [layer]}))
    assert row["inputs"] == ["Int8[1,4]"]
    told = [{"count": 10}, {"name": "fc", "timeMs": 5.0, "averageMs": 0.5, "percentage": 100}]
    assert trtexec.read_profile(written(tmp_path / "p.json", told)) == {"fc": 0.5}
    told = [{"startComputeMs": 1.0, "computeMs": 0.25, "latencyMs": 0.4}, {"computeMs": 0.5}]
    assert trtexec.read_times(written(tmp_path / "t.json", told)) == [0.25, 0.5]


@pytest.mark.parametrize("read", [trtexec.read_layers, trtexec.read_profile, trtexec.read_times])
@pytest.mark.parametrize("text", ["", "{}", "[3]", "[" * 10**5, "\ud800"])
def test_other_files_are_refused(read, text, tmp_path):
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(JobFault) as caught:
        read(tmp_path / "x.json")
    assert caught.value.code == "EV357"


@pytest.mark.parametrize(
    "value", ['"fast"', "null", "true", "NaN", "Infinity", "-1", "[]", "1" * 400]
)
def test_a_time_that_is_none_is_refused(value, tmp_path):
    (tmp_path / "p.json").write_text(f'[{{"name": "fc", "averageMs": {value}}}]')
    (tmp_path / "t.json").write_text(f'[{{"computeMs": {value}}}]')
    for read, name in ((trtexec.read_profile, "p.json"), (trtexec.read_times, "t.json")):
        with pytest.raises(JobFault, match="EV357"):
            read(tmp_path / name)


def test_a_layer_with_tensors_that_are_none_is_a_row_without(tmp_path):
    layer = {"Name": "fc", "LayerType": "gemm", "Inputs": 5, "Outputs": {"a": 1}}
    [row] = trtexec.read_layers(written(tmp_path / "l.json", {"Layers": [layer]}))
    assert row["inputs"] == row["outputs"] == []


def test_a_file_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(trtexec, "MAX_BYTES", 10)
    with pytest.raises(JobFault, match="more than 10 bytes"):
        trtexec.read_times(written(tmp_path / "t.json", [{"computeMs": 1.0}]))
