"""`edgevlm compile --classes ... --alpha ...` from the call to the bundle, and every bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from edgevlm.commands import compile
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import load_model
from edgevlm.compiler.recipe import Recipe
from edgevlm.devices.schema import Fact, Matrices
from edgevlm.models.answer import Viewer
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

NAMES = ("ape", "bee", "cat", "dog", "eel", "fox")
MINE = ("bee", "dog", "fox")


@pytest.fixture
def derive(edgevlm, vit_folder, labelled_folder, tmp_path):
    def call(*more, model=vit_folder, calib=labelled_folder):
        given = () if calib is None else ("--calib", calib)
        out = tmp_path / "d.edgevlm"
        common = ("--target", "cpu", "--payoff", "none", "--force", "-o", out, "--json", "--quiet")
        return edgevlm("compile", model, *more, *given, *common)

    return call


def held_out(folder):
    """Every fifth picture of each class, by name."""
    return [(name, path) for name in MINE for path in sorted((folder / name).glob("*.png"))[4::5]]


def test_the_three_accuracies_are_those_of_three_models(
    derive, vit_folder, labelled_folder, tmp_path
):
    """Each computed here again, from the pictures' files and the bundle on disk."""
    ended = derive("--classes", "fox,dog,bee", "--alpha", "0.2")
    found = ended.json["derived"]
    base, bundle = load_model(vit_folder), open_bundle(tmp_path / "d.edgevlm")
    manifest = bundle.manifest
    parts = find_runtime(manifest.target.runtime).open(bundle)
    whole = Viewer(base.contract, base.processor, ReferenceParts(base.parts))
    made = Viewer(manifest.contract, manifest.processor, parts)
    right = dict.fromkeys(found["right"], 0)
    for name, path in held_out(labelled_folder):
        logits, mine = whole.look(load_image(path))[0], made.look(load_image(path))[0]
        right["base"] += NAMES[int(logits.argmax())] == name
        masked = [float(logits[NAMES.index(n)]) for n in MINE]
        right["base_head_mask"] += MINE[int(np.argmax(masked))] == name
        right["derived"] += MINE[int(mine.argmax())] == name
    assert found["right"] == right and right["base"] == 6  # the pictures are what it says
    assert (found["kind"], found["classes"], found["of"]) == ("classes", list(MINE), 6)
    assert (found["fitted_to"], found["held_out"]) == (24, 6)
    assert found["accuracy"] == {k: round(v / 6, 4) for k, v in right.items()}
    assert found["macs"]["derived"] <= 0.8 * found["macs"]["base"]
    assert manifest.processor.class_names == MINE and manifest.contract.vocabulary == 3


def test_widths_are_multiples_of_what_the_device_file_says(derive, monkeypatch, tmp_path):
    plain = compile.find_device("cpu")
    fact = Fact(value=4.0, source="https://example.org/sheet", confidence="B")
    made = plain.model_copy(update={"matrices": Matrices(multiple=fact)})
    monkeypatch.setattr(compile, "find_device", lambda _: made)
    assert derive("--classes", "fox,dog,bee", "--alpha", "0.2").status == 0
    steps = Recipe.read(tmp_path / "d.edgevlm" / "recipe.toml").steps
    (options,) = [step.options for step in steps if step.name == "narrow-encoder"]
    assert options["multiple"] == 4


def test_purify_and_recover_are_steps_of_the_bundle(derive, tmp_path):
    pytest.importorskip("torch", reason="both train: pip install 'edgevlm[torch]'")
    ended = derive(
        "--classes", "fox,dog,bee", "--alpha", "0.25", "--purify", "20", "--recover", "20"
    )
    assert ended.status == 0, ended.err
    recipe = (tmp_path / "d.edgevlm" / "recipe.toml").read_text()
    order = [recipe.index(f'"{n}"') for n in ("purify-units", "narrow-encoder", "recover-encoder")]
    assert order == sorted(order) and recipe.count("steps = 20") == 2
    found = ended.json["derived"]["macs"]
    assert found["derived"] <= 0.75 * found["base"]


def test_a_person_reads_the_three_side_by_side(edgevlm, vit_folder, labelled_folder, tmp_path):
    ended = edgevlm(
        "compile", vit_folder, "--target", "cpu", "--classes", "ape,cat", "--alpha", "0.1",
        "--calib", labelled_folder, "-o", tmp_path / "b", "--payoff", "none",
    )  # fmt: skip
    assert ended.status == 0 and "2 of 6 classes, 4 pictures held out" in ended.err
    assert all(name in ended.err for name in ("base + head mask", "derived", "right of 4"))


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--classes", "cat,dgo"), "EV135", "did you mean dog?"),
        (("--classes", "cat"), "EV135", "two classes are the least"),
        (("--classes", ",".join(NAMES)), "EV135", "all 6 classes"),
        (("--classes", "cat,"), "EV135", "no class ''"),
        (("--classes", "cat,cat"), "EV135", "there twice"),
        (("--classes", "cat,dog", "--alpha", "0"), "EV250", "between 0 and 1"),
        (("--classes", "cat,dog", "--alpha", "1"), "EV250", "between 0 and 1"),
        (("--classes", "cat,dog", "--alpha", "nan"), "EV250", "between 0 and 1"),
        (("--classes", "cat,dog", "--alpha", "0.99"), "EV250", "leave 0"),
        (("--domain", "x", "--alpha", "0.5"), "EV220", "leave --calib out"),
        (("--recover", "5"), "EV220", "nothing is derived"),
        (("--classes", "cat,dog", "--recover", "5"), "EV220", "takes anything away"),
        (("--alpha", "0.5", "--recover", "0"), "EV001", "--recover"),
    ],
)
def test_calls_that_are_wrong(derive, tmp_path, more, code, said):
    alpha = () if "--alpha" in more or "--recover" in more else ("--alpha", "0.1")
    ended = derive(*more, *alpha)
    error = ended.json["error"]
    assert (ended.status, error["code"]) == (2, code), error
    assert said in " ".join(error.values())
    assert not (tmp_path / "d.edgevlm").exists()


def test_without_pictures_nothing_is_narrowed(derive):
    error = derive("--classes", "cat,dog", "--alpha", "0.1", calib=None).json["error"]
    assert error["code"] == "EV220" and "without --calib" in error["what"]
    error = derive("--classes", "cat,dog", "--purify", calib=None).json["error"]
    assert error["code"] == "EV220"


@pytest.fixture
def spoilt(labelled_folder, tmp_path):
    return shutil.copytree(labelled_folder, tmp_path / "pictures")


def test_a_class_without_enough_pictures(derive, spoilt):
    for path in sorted((spoilt / "dog").glob("*.png"))[4:]:
        path.unlink()
    error = derive("--classes", "cat,dog", "--alpha", "0.1", calib=spoilt).json["error"]
    assert error["code"] == "EV139" and "dog: fewer than 5" in error["what"]
    assert derive("--classes", "cat,bee", "--alpha", "0.1", calib=spoilt).status == 0
    shutil.rmtree(spoilt / "dog")
    error = derive("--classes", "cat,dog", "--alpha", "0.1", calib=spoilt).json["error"]
    assert error["code"] == "EV139" and "dog" in error["what"]


def test_pictures_that_do_not_decode_are_counted(derive, spoilt):
    paths = sorted(spoilt.glob("*/*.png"))
    assert len(paths) == 60
    for path in paths[::25]:
        path.write_bytes(path.read_bytes()[:40])
    ended = derive("--classes", "cat,dog", "--alpha", "0.1", calib=spoilt)
    assert ended.status == 0 and any("3 of 60 calibration" in n for n in ended.json["notes"])
    paths[1].write_bytes(b"")
    error = derive("--classes", "cat,dog", "--alpha", "0.1", calib=spoilt).json["error"]
    assert error["code"] == "EV138" and "4 of 60 pictures" in error["what"]


def test_pictures_of_which_nobody_says_what_they_are(derive, spoilt, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(spoilt.glob("*/*.png"))):
        shutil.copy(path, flat / f"{i:02d}.png")
    error = derive("--classes", "cat,dog", "--alpha", "0.1", calib=flat).json["error"]
    assert error["code"] == "EV139" and "they need a sub-folder for each" in error["why"]
    ended = derive("--alpha", "0.1", calib=flat)  # for all classes none has to be known
    assert ended.status == 0 and ended.json["derived"] is None


def test_models_that_have_no_classes(derive, edgevlm, tower_folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "a.png")
    for alpha in (("--alpha", "0.1"), ()):
        error = derive("--classes", "cat,dog", *alpha, model=tower_folder, calib=flat).json
        assert error["error"]["code"] == "EV250" and "--domain FOLDER" in error["error"]["next"]


def test_a_classifier_without_an_encoder_says_what_is_left(derive, tmp_path, spoilt):
    """Grey shades, told apart by one product: nothing there is a head or a hidden unit."""
    from micro.shades import shade_classifier

    model = shade_classifier(tmp_path, NAMES, (10, 60, 110, 160, 210, 250))
    assert import_onnx(model).contract.kind == "classifier"
    ended = derive("--classes", "cat,dog", "--alpha", "0.5", model=model, calib=spoilt)
    error = ended.json["error"]
    assert (ended.status, error["code"]) == (2, "EV250") and "leave 1" in error["why"]


def test_what_the_record_of_the_bundle_holds_is_what_was_told(derive, tmp_path):
    told = derive("--classes", "cat,dog", "--alpha", "0.1").json["derived"]
    records = [json.loads(p.read_text()) for p in (tmp_path / "d.edgevlm").glob("*.json")]
    assert told in [r.get("derived") for r in records if isinstance(r, dict)]
