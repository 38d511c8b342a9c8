"""Inputs that numbers are fitted to: training splits, folders, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from micro.shades import shade_classifier, shade_files
from PIL import Image

from edgevlm.compiler.errors import UsageFault
from edgevlm.models import calibration
from edgevlm.models.calibration import (
    INPUTS,
    SPLITS,
    UNSEEN,
    by_class,
    calibration_probes,
    calibration_set,
    unseen_rows,
)
from edgevlm.models.datasets import DATASETS, Dataset, Row, fashion_mnist, load_dataset
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.probes import QUESTIONS, drawn_probes


def refused(model, asked, code):
    with pytest.raises(UsageFault) as caught:
        calibration_probes(asked, model)
    assert caught.value.code == code
    return caught.value


def test_a_data_set_gives_training_rows(micro_model):
    found = calibration_probes("scenes:12", micro_model)
    rows = load_dataset("scenes", "train", limit=12).rows
    assert [p.question for p in found] == [r.question for r in rows]
    assert all(np.array_equal(p.image, r.image) for p, r in zip(found, rows, strict=True))
    assert len(calibration_probes("scenes", micro_model)) == INPUTS
    assert len(calibration_probes("scenes:1", micro_model)) == 1


def test_no_test_split_is_ever_calibrated_on(micro_model):
    assert "test" not in SPLITS.values()
    for name in set(DATASETS) - set(SPLITS):
        assert "test split only" in refused(micro_model, name, "EV132").why


def test_pictures_of_a_folder_are_asked_the_probes_questions(micro_model, tmp_path):
    for i in range(5):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    found = calibration_probes(str(tmp_path), micro_model)
    asked = [p.question for p in micro_model.probes]
    assert [p.question for p in found] == [asked[i % len(asked)] for i in range(5)]
    assert [int(p.image[0, 0, 0]) for p in found] == list(range(5))


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """shades(names): a classifier of ten shades with these names."""

    def make(names):
        model = import_onnx(shade_classifier(tmp_path_factory.mktemp("shades"), names))
        return replace(model, probes=drawn_probes())

    return make


@pytest.fixture(scope="module")
def clothes(shades):
    return shades([name.title() for name in fashion_mnist.CLASSES])


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return shade_files(tmp_path_factory.mktemp("fashion"), "train")


@pytest.fixture
def fashion(installed, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FOLDER", installed)


@pytest.mark.parametrize("count", [1, 9, 10, 43])
def test_a_data_set_of_classes_gives_as_many_of_each(clothes, fashion, count):
    found = calibration_probes(f"fashion-mnist:{count}", clothes)
    classes = by_class(found)
    assert len(found) == count and set(classes) <= set(clothes.processor.class_names)
    assert {len(places) for places in classes.values()} <= {count // 10, count // 10 + 1}
    rows = load_dataset("fashion-mnist", "train").rows
    pictures = {(row.image.tobytes(), row.answer) for row in rows}
    assert {(p.image.tobytes(), p.answer.lower()) for p in found} <= pictures
    assert found[0].question == QUESTIONS[0]


def test_pictures_come_from_all_over_the_split(clothes, monkeypatch):
    """Of a class with 100 pictures ten are not its first ten."""
    rows = tuple(
        Row(np.full((1, 1, 3), i // 10, np.uint8), "", name, name)
        for i, name in enumerate(fashion_mnist.CLASSES * 100)
    )
    data = Dataset("fashion-mnist", "train", rows, "MIT", fashion_mnist.CLASSES)
    monkeypatch.setattr(calibration, "load_dataset", lambda name, split: data)
    found = calibration_probes("fashion-mnist:100", clothes)
    for places in by_class(found).values():
        assert [int(found[i].image[0, 0, 0]) // 10 for i in places] == list(range(10))


def test_answers_are_those_the_model_can_give(shades, fashion):
    names = ["bag", "Coat", *(f"thing {i}" for i in range(8))]
    found = calibration_probes("fashion-mnist:20", shades(names))
    assert {k: len(v) for k, v in by_class(found).items()} == {"bag": 2, "Coat": 2}
    assert by_class(calibration_probes("fashion-mnist:20", shades([]))) == {}


def test_a_question_model_is_asked_its_own_questions_about_them(micro_model, fashion):
    found = calibration_probes("fashion-mnist:5", micro_model)
    asked = [p.question for p in micro_model.probes]
    assert [p.question for p in found] == [asked[i % len(asked)] for i in range(5)]
    assert by_class(found) == {}


def test_answers_to_questions_are_no_classes(clothes):
    found = calibration_probes("scenes:6", clothes)
    assert len(found) == 6 and by_class(found) == {}


def test_a_folder_of_classes_for_a_classifier_alone(clothes, micro_model, tmp_path):
    for i, sub in enumerate(("BAG", "ankle_boot")):
        (tmp_path / sub).mkdir()
        Image.new("RGB", (100, 60), (i, 0, 0)).save(tmp_path / sub / "0.png")
    found = calibration_set(str(tmp_path), clothes)
    assert by_class(found.probes) == {"Bag": [0], "Ankle-Boot": [1]} and found.notes == ()
    assert {p.image.shape for p in found.probes} == {(28, 28, 3)}  # as the model looks at it
    Image.new("RGB", (8, 8)).save(tmp_path / "BAG" / "small.png")
    assert calibration_probes(str(tmp_path), clothes)[2].image.shape == (8, 8, 3)  # as it is
    refused(micro_model, str(tmp_path), "EV134")


def test_a_flat_folder_for_a_classifier_has_no_answers(clothes, tmp_path):
    Image.new("RGB", (100, 60)).save(tmp_path / "0.png")
    (probe,) = calibration_probes(str(tmp_path), clothes)
    assert probe.answer is None and probe.image.shape == (60, 100, 3)


def test_unseen_rows_are_for_the_kind_of_model(fashion):
    assert "test" not in UNSEEN.values()
    found = unseen_rows("fashion-mnist:10", 30, "classifier")
    assert (found.split, len(found.rows)) == ("validation", 30)
    assert unseen_rows("fashion-mnist", 30, "vlm") is None
    assert unseen_rows("scenes", 30, "classifier") is None
    assert unseen_rows("scenes", 30, "dense") is unseen_rows("fashion-mnist", 3, "dense") is None
    assert len(unseen_rows("scenes:4", 3, "vlm").rows) == 3


def test_what_is_refused(micro_model, tmp_path):
    assert "easy-vqa" in refused(micro_model, "easy-vka", "EV130").why
    refused(micro_model, "scenes:0", "EV132")
    refused(micro_model, "scenes:99999", "EV132")
    refused(micro_model, str(tmp_path / "none"), "EV130")
    refused(micro_model, str(tmp_path), "EV134")  # an empty folder
