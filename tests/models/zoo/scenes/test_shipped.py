"""scenes-tiny is as good as it has to be, its README says so, and words alone do not do it."""

import json
import re

from edgevlm.models.zoo import bundled_folder


def final(name):
    lines = (bundled_folder(name).parent / "train.log.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def test_scenes_tiny_is_worth_pruning_on():
    figures = final("scenes-tiny")
    assert figures["test"]["overall"] >= 0.9 and figures["test"]["n_overall"] == 5000
    assert figures["blank_picture"]["overall"] < 0.5 and figures["wrong_picture"]["overall"] < 0.5
    readme = (bundled_folder("scenes-tiny").parent / "README.md").read_text()
    for case in ("test", "validation", "blank_picture", "wrong_picture"):
        assert f"{100 * figures[case]['overall']:.2f} %" in readme
    assert re.sub(r"\s+", " ", figures["command"]) in re.sub(r"[\s\\]+", " ", readme)
