"""`edgevlm compile vit.onnx`: compiled, asked, proved; a classifier and a dense model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from micro.bare import bare_vit
from PIL import Image

from edgevlm.compiler.bundle import open_bundle
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.processing.preprocess import ImageProcessor

NAMES = ["ant", "bee", "cat", "dog", "eel"]
HALF = ("--tokens", "50%", "--prune", "divprune", "--prune-at", "vision:1")
KINDS = ["classifier", "dense"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A file of each kind, with its sidecar; sizes open, so that the sidecar is needed."""
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind) / "tiny_vit.onnx"
        made[kind].write_bytes(bare_vit(kind, opset=13, layers=3).SerializeToString())
        labels = f"labels = {json.dumps(NAMES)}\n" if kind == "classifier" else ""
        toml = f'{labels}[image]\nheight = 16\nwidth = 16\nresample = "bicubic"\n'
        made[kind].with_suffix(".toml").write_text(toml)
    return made


@pytest.fixture(scope="module")
def compiled(sources, edgevlm, tmp_path_factory):
    """compiled(kind, *options): the bundle, made once, and how the call ended."""
    made = {}

    def make(kind: str, *options: str):
        if (kind, options) not in made:
            out = tmp_path_factory.mktemp("bundle") / "x.edgevlm"
            args = ("--target", "cpu", "-o", out, "--payoff", "none", *options, "--json")
            made[kind, options] = out, edgevlm("compile", sources[kind], *args)
        return made[kind, options]

    return make


@pytest.mark.parametrize("options", [(), HALF], ids=["whole", "half"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_compiles_runs_and_verifies(compiled, edgevlm, picture, kind, options):
    out, ended = compiled(kind, *options)
    assert ended.status == 0, ended.err
    seen = edgevlm("run", out, "--image", picture, "--json")
    assert seen.status == 0, seen.err
    if kind == "classifier":
        assert {c["label"] for c in seen.json["classes"]} == set(NAMES)
    else:
        assert seen.json["map"]["shape"] == [1, 2, 16, 16]
    proved = edgevlm("verify", out, "--json")
    assert proved.status == 0, proved.err
    contract = open_bundle(out).manifest.contract
    assert contract.kept_image_tokens == (8 if options else 16) and contract.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_gives_what_the_file_gives(compiled, sources, edgevlm, picture, kind, tmp_path):
    """The picture through the sidecar's processor and the file in ONNX Runtime, by hand."""
    out, _ = compiled(kind)
    image = Image.open(picture).convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    x = np.asarray(image, np.float64) / 255
    x = ((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)[None]
    want = ort.InferenceSession(str(sources[kind])).run(None, {"picture": x.astype(np.float32)})[0]
    seen = edgevlm("run", out, "--image", picture, "--json").json
    if kind == "classifier":
        got = {c["class"]: c["value"] for c in seen["classes"]}
        np.testing.assert_allclose([got[i] for i in range(5)], want[0], rtol=1e-3, atol=1e-4)
    else:
        said = [seen["map"][name] for name in ("min", "mean", "max")]
        np.testing.assert_allclose(
            said, [want.min(), want.mean(), want.max()], rtol=1e-3, atol=1e-4
        )


def test_attention_and_gelu_and_norms_are_found(compiled):
    """Opset 13 has none of these ops; fewer tokens are of use only where blocks are seen."""
    out, _ = compiled("classifier", *HALF)
    passes = {p["name"]: p for p in open_bundle(out).record()["passes"]}
    for name, count in {"fuse-attention": 3, "fuse-gelu": 3, "fuse-layer-norm": 7}.items():
        (note,) = [n for n in passes[name]["notes"] if n["kind"] == "matched"]
        assert note["why"].startswith(f"{count} became "), (name, note)


def test_inspect_tells_what_it_is_and_what_was_assumed(sources, edgevlm):
    seen = edgevlm("inspect", sources["dense"], "--json").json
    assert (seen["contract"]["kind"], seen["contract"]["grid"]) == ("dense", [4, 4])
    (note,) = seen["source"]["notes"]
    assert "tiny_vit.toml leaves out" in note and "mean" in note


def test_a_compile_tells_what_was_assumed(compiled):
    (note,) = compiled("classifier")[1].json["notes"]
    assert note.startswith("tiny_vit.toml leaves out, and so was taken: mean (0.485, 0.456, 0.406)")


@pytest.mark.parametrize("labelled", [True, False])
def test_calibration_pictures_that_cannot_be_read_are_told(
    edgevlm, sources, picture, tmp_path, labelled
):
    """In the report, in words, and in the record; one too many is a fault and leaves nothing."""
    folder, out = tmp_path / "pictures", tmp_path / "x.edgevlm"
    subs = [folder / name for name in NAMES[:2]] if labelled else [folder]
    for sub in subs:
        sub.mkdir(parents=True)
        for i in range(20 // len(subs)):
            shutil.copy(picture, sub / f"{i:02d}.png")
    (subs[0] / "00.png").write_bytes(b"")
    call = ("compile", sources["classifier"], "--target", "cpu", "-o", out, "--payoff", "none",
            "--quant", "w8a8", "--calib", folder)  # fmt: skip
    ended = edgevlm(*call, "--json")
    assert ended.status == 0, ended.err
    note = "1 of 20 calibration pictures cannot be read and were left out; the first: "
    note += "ant/00.png" if labelled else "00.png"
    assert ended.json["notes"][-1] == note and f"note: {note}" in ended.err.splitlines()
    assert json.loads((out / "record.json").read_text())["notes"][-1] == note
    shutil.rmtree(out)
    (subs[0] / "01.png").write_bytes(b"")
    ended = edgevlm(*call)
    assert (ended.status, ended.code) == (1, "EV138") and not out.exists()


@pytest.fixture
def own(sources, tmp_path) -> Path:
    folder = Path(shutil.copytree(sources["classifier"].parent, tmp_path / "own"))
    return folder / "tiny_vit.onnx"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-99]), "EV101"),
        (lambda p: p.with_suffix(".toml").unlink(), "EV141"),
        (lambda p: p.with_suffix(".toml").write_text("labels = 5"), "EV141"),
        (lambda p: p.write_bytes(bare_vit(picture="4,3,16,16").SerializeToString()), "EV140"),
    ],
)
def test_what_is_wrong_is_told_in_three_lines_and_leaves_nothing(
    edgevlm, own, tmp_path, spoil, code
):
    spoil(own)
    out = tmp_path / "x.edgevlm"
    ended = edgevlm("compile", own, "--target", "cpu", "-o", out, "--quiet")
    assert (ended.status, ended.code, ended.out) == (1, code, "") and not out.exists()
    assert edgevlm("inspect", own, "--json").json["error"]["code"] == code


@pytest.mark.parametrize("option", ["--max-prompt", "--max-answer"])
def test_options_of_a_language_model_are_refused(edgevlm, own, tmp_path, option):
    ended = edgevlm("compile", own, "--target", "cpu", "-o", tmp_path / "x", option, "8")
    assert (ended.status, ended.code) == (2, "EV115") and "reads no prompt" in ended.err


def test_a_question_to_it_is_refused(edgevlm, compiled, picture):
    out, _ = compiled("classifier")
    ended = edgevlm("run", out, "--image", picture, "--prompt", "is it red?")
    assert ended.status != 0 and ended.code.startswith("EV")


def test_the_suffix_may_be_written_large(edgevlm, own, tmp_path):
    """As some tools of Windows do."""
    large = own.with_suffix(".ONNX")
    own.rename(large)
    ended = edgevlm("compile", large, "--target", "cpu", "-o", tmp_path / "x.edgevlm", "--quiet")
    assert ended.status == 0, ended.err
    assert import_onnx(large).processor.image == ImageProcessor(
        height=16,
        width=16,
        resample="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ).model_dump(mode="json")
