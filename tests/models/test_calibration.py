"""Inputs that numbers are fitted to: training splits, folders, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgevlm.compiler.errors import UsageFault
from edgevlm.models.calibration import INPUTS, SPLITS, calibration_probes
from edgevlm.models.datasets import DATASETS, load_dataset


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


def test_what_is_refused(micro_model, tmp_path):
    assert "easy-vqa" in refused(micro_model, "easy-vka", "EV130").why
    refused(micro_model, "scenes:0", "EV132")
    refused(micro_model, "scenes:99999", "EV132")
    refused(micro_model, str(tmp_path / "none"), "EV130")
    refused(micro_model, str(tmp_path), "EV134")  # an empty folder
