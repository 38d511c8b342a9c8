"""`edgevlm compile --domain`: a VLM's tower for what it will be asked, judged on rows held out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.commands.derived_domain import split_rows
from edgevlm.compiler.beside import Probe
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import load_model
from edgevlm.models.answer import Answerer
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime


@pytest.fixture
def derive(edgevlm, tower_folder, domain_folder, tmp_path):
    def call(*more, model=tower_folder, domain=domain_folder):
        out = ("--target", "cpu", "--payoff", "none", "--force", "-o", tmp_path / "d.edgevlm")
        return edgevlm("compile", model, "--domain", domain, *out, *more, "--json", "--quiet")

    return call


def test_both_accuracies_are_those_of_asking(derive, tower_folder, domain_folder, tmp_path):
    """Of rows about every fifth picture, asked here again, of the source and of the bundle."""
    report = derive("--alpha", "0.2").json
    found, bundle = report["derived"], open_bundle(tmp_path / "d.edgevlm")
    base, manifest = load_model(tower_folder), bundle.manifest
    parts = find_runtime(manifest.target.runtime).open(bundle)
    asked = {
        "base": Answerer(base.contract, base.processor, base.tokenizer, ReferenceParts(base.parts)),
        "derived": Answerer(manifest.contract, manifest.processor, base.tokenizer, parts),
    }
    rows = [json.loads(line) for line in (domain_folder / "rows.jsonl").read_text().splitlines()]
    held = [row for i, row in enumerate(rows) if i // 2 % 5 == 4]
    for name, answerer in asked.items():
        said = [
            answerer.answer(load_image(domain_folder / r["image"]), r["question"]).text
            for r in held
        ]
        right = sum(s.strip().casefold() == r["answer"] for s, r in zip(said, held, strict=True))
        assert found["right"][name] == right and found["accuracy"][name] == round(right / 6, 4)
    assert (found["kind"], found["fitted_to"], found["held_out"]) == ("domain", 24, 6)
    assert found["domain"] == str(domain_folder) and "base_head_mask" not in found["right"]
    assert found["macs"]["derived"] <= 0.8 * found["macs"]["base"]
    assert any("domain-specific, not class-specific" in note for note in report["notes"])


def test_a_person_is_told_that_it_is_for_a_domain(edgevlm, tower_folder, domain_folder, tmp_path):
    ended = edgevlm(
        "compile", tower_folder, "--target", "cpu", "--domain", domain_folder, "--alpha", "0.1",
        "-o", tmp_path / "b", "--payoff", "none",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert "domain-specific" in ended.err and "6 questions held out" in ended.err


def test_the_tower_is_purified_by_answers_and_recovered_by_features(derive, tmp_path):
    pytest.importorskip("torch", reason="both train: pip install 'edgevlm[torch]'")
    ended = derive("--alpha", "0.2", "--purify", "10", "--recover", "10")
    assert ended.status == 0, ended.err
    recipe = (tmp_path / "d.edgevlm" / "recipe.toml").read_text()
    assert 'by = "lm"' in recipe and '"recover-encoder"' in recipe


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ((), "EV220", "nothing is fitted to it"),
        (("--classes", "a,b", "--alpha", "0.2"), "EV220", "--domain with --classes"),
        (("--calib", "scenes", "--alpha", "0.2"), "EV220", "leave --calib out"),
        (("--recipe", "x.toml"), "EV220", "--domain"),
    ],
)
def test_calls_that_are_wrong(derive, more, code, said):
    ended = derive(*more)
    error = ended.json["error"]
    assert (ended.status, error["code"]) == (2, code) and said in " ".join(error.values())


def test_a_classifier_has_no_domain(derive, vit_folder, domain_folder, tmp_path):
    error = derive("--alpha", "0.2", model=vit_folder).json["error"]
    assert error["code"] == "EV250" and "--classes" in error["next"]
    error = derive("--alpha", "0.2", domain=tmp_path).json["error"]
    assert error["code"] == "EV131" and "rows.jsonl" in error["why"]


def rows(*pictures):
    """A row for each number, which is the picture's colour."""
    made = (np.full((4, 4, 3), number, np.uint8) for number in pictures)
    return [Probe(image=image, question=str(i)) for i, image in enumerate(made)]


def test_no_picture_is_on_both_sides():
    split = split_rows(rows(0, 1, 2, 3, 4, 4, 0, 5, 6, 7, 8, 9, 9, 3))
    fit, held = ({int(p.image[0, 0, 0]) for p in side} for side in (split.fit, split.held))
    assert held == {4, 9} and fit == set(range(10)) - held
    assert [p.question for p in split.held] == ["4", "5", "11", "12"]
    assert len(split.fit) + len(split.held) == 14


def test_too_few_pictures_to_hold_one_out():
    with pytest.raises(UsageFault) as caught:
        split_rows(rows(1, 2, 3, 4, 1, 2, 3, 4))
    assert caught.value.code == "EV139" and "4 pictures" in caught.value.what


def test_fewer_tokens_and_a_narrower_tower_are_timed_against_all_tokens(derive):
    """Nothing is trained again for the model that it is timed against."""
    pytest.importorskip("torch", reason="both train: pip install 'edgevlm[torch]'")
    more = ("--tokens", "4", "--alpha", "0.2", "--purify", "5", "--recover", "5")
    ended = derive(*more, "--payoff", "quick")
    assert ended.status == 0, ended.err
    report = ended.json
    assert report["image_tokens"]["kept"] == 4 and report["payoff"]["n"] > 0
    assert report["derived"]["kind"] == "domain"
