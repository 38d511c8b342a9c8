"""What `compile` and `inspect` are given: nothing there, something broken, or a family unknown."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import onnx
import pytest

from edgevlm.models.hf import FAMILIES
from edgevlm.models.zoo import bundled_folder

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"


@pytest.fixture
def refused(edgevlm, tmp_path):
    """`refused(model, status, code)`: by compile and inspect alike; returns stderr of compile."""

    def check(model: object, status: int, code: str, *args: object) -> str:
        out = tmp_path / "out.edgevlm"
        ended = edgevlm("compile", model, "--target", "cpu", "-o", out, "--quiet", *args)
        assert (ended.status, ended.code, ended.out) == (status, code, "")
        assert len(ended.err.splitlines()) == 3
        assert not out.exists() and not list(tmp_path.glob(".*"))
        if not args:
            seen = edgevlm("inspect", model, "--json")
            assert (seen.status, seen.json["error"]["code"]) == (status, code)
        return ended.err

    return check


@pytest.fixture
def spoilt(micro_folder, tmp_path):
    """A copy of the micro model to break."""
    return Path(shutil.copytree(micro_folder, tmp_path / "model"))


def test_nothing_there_names_what_is_near(refused):
    err = refused("easyvqa-tyni", 2, "EV100")
    assert "next: edgevlm compile easyvqa-tiny --target cpu -o out.edgevlm" in err


def test_folders_and_files_that_are_no_model(refused, tmp_path, bundle, edgevlm):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a")
    (tmp_path / "model.pt").write_bytes(b"\x80\x04")
    assert "no model.json and no config.json" in refused(tmp_path / "empty", 1, "EV100")
    assert "it is a file" in refused(tmp_path / "model.pt", 1, "EV100")
    assert "model.onnx" in refused(tmp_path / "model.onnx", 1, "EV101")
    ended = edgevlm("compile", bundle, "--target", "cpu", "-o", tmp_path / "out")
    assert (ended.status, ended.code) == (1, "EV100")
    assert f"next: edgevlm inspect {bundle}" in ended.err and "a bundle already" in ended.err


@pytest.mark.parametrize(
    ("name", "size", "code", "said"),
    [
        ("weights.bin", 100, "EV101", "weights.bin"),
        ("weights.bin", 0, "EV101", "weights.bin"),
        ("weights.bin", None, "EV101", "weights.bin"),
        ("vision.onnx", 50, "EV101", "vision.onnx"),
        ("decode.onnx", 0, None, "decode"),
        ("decode.onnx", None, "EV101", "decode.onnx"),
        ("model.json", 100, "EV102", "model.json"),
        ("model.json", 0, "EV102", "model.json"),
        ("tokenizer.json", 100, "EV104", "tokenizer.json"),
        ("tokenizer.json", None, "EV102", "model"),
        ("probes/001.png", 60, "EV102", "001.png"),
        ("probes/001.png", None, "EV102", "001.png"),
    ],
)
def test_a_truncated_or_missing_file_is_named(edgevlm, micro_folder, tmp_path, name, size, code,
                                              said):  # fmt: skip
    model = tmp_path / "model"
    source = bundled_folder("easyvqa-tiny") if name == "weights.bin" else micro_folder
    shutil.copytree(source, model)
    if size is None:
        (model / name).unlink()
    else:
        os.truncate(model / name, size)
    out = tmp_path / "b.edgevlm"
    ended = edgevlm("compile", model, "--target", "cpu", "-o", out, "--quiet")
    assert ended.status == 1 and ended.code in ({code} if code else {"EV101", "EV106"})
    assert said in ended.err and not out.exists()


def test_libraries_do_not_add_their_own_lines(process, tmp_path, micro_folder):
    """onnx-ir warns of a missing weight through logging, which ends on stderr as a last resort."""
    model = Path(shutil.copytree(micro_folder, tmp_path / "model"))
    decode = onnx.load(model / "decode.onnx")
    decode.graph.initializer.pop()
    (model / "decode.onnx").write_bytes(decode.SerializeToString())
    args = ("compile", model, "--target", "cpu", "-o", tmp_path / "b", "--quiet")
    ended = process(*args)
    assert ended.status == 1 and ended.code.startswith("EV") and ended.code != "EV500"
    assert len(ended.err.splitlines()) == 3
    assert "cannot be found in any scope" in process(*args, env={"EDGEVLM_DEBUG": "1"}).err


@pytest.mark.parametrize(
    ("edit", "status", "code"),
    [
        (lambda m: m.update(schema=2), 1, "EV105"),
        (lambda m: m["processor"]["image"].update(width=5), 1, "EV106"),
        (lambda m: m["processor"]["image"].update(bogus=5), 1, "EV103"),
        (lambda m: m["processor"].update(template="no place"), 1, "EV104"),
        (lambda m: m["contract"].update(layers=2), 1, "EV106"),
        (lambda m: m["contract"].update(layers="1"), 1, "EV102"),
        (lambda m: m["source"].update(digest="x"), 1, "EV102"),
        (lambda m: m["probes"][0].update(image="../../x.png"), 1, "EV102"),
        (lambda m: m["probes"][0].update(question="is " * 99), 2, "EV120"),
    ],
)
def test_a_model_json_that_does_not_fit_is_told(edgevlm, spoilt, tmp_path, edit, status, code):
    record = json.loads((spoilt / "model.json").read_text())
    edit(record)
    (spoilt / "model.json").write_text(json.dumps(record))
    ended = edgevlm("compile", spoilt, "--target", "cpu", "-o", tmp_path / "b", "--quiet")
    assert (ended.status, ended.code) == (status, code), ended.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["qwen3_vl", "bert", "../../llava", "", None, ["llava"], 7])
def test_an_unknown_family_is_named_with_the_known_ones(refused, tmp_path, kind):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind} if kind != "" else {}))
    err = refused(folder, 2, "EV107")
    assert str(kind or "") in err
    for family in FAMILIES:
        assert family in err


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_config_that_is_broken_is_told(refused, tmp_path, text):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "config.json" in refused(folder, 1, "EV109")


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the LLaVA checkpoint that ships, to break."""
    pytest.importorskip("torch", reason="needs: pip install 'edgevlm[torch]'")
    pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("name", "size"),
    [("model.safetensors", 100_000), ("model.safetensors", None), ("tokenizer.json", None)],
)
def test_a_broken_checkpoint_is_told(refused, checkpoint, name, size):
    if size is None:
        (checkpoint / name).unlink()
    else:
        os.truncate(checkpoint / name, size)
    assert "checkpoint" in refused(checkpoint, 1, "EV109", "--tokens", "4")


def test_weights_that_would_have_to_be_unpickled_are_not(refused, checkpoint):
    import torch

    (checkpoint / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, checkpoint / "pytorch_model.bin")
    err = refused(checkpoint, 1, "EV109", "--tokens", "4")
    assert "safetensors" in err
