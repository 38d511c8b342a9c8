"""fashion-vit is small, complete, the classifier of its log, and its README says what that is."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import load_model
from edgevlm.models.answer import Viewer
from edgevlm.models.datasets.fashion_mnist import CLASSES, FOLDER, INSTALL, arrays
from edgevlm.models.zoo import bundled_folder

HERE = bundled_folder("fashion-vit").parent
MOST_BYTES = 8_000_000
SHOWN = 500


@pytest.fixture(scope="module")
def model():
    return load_model(bundled_folder("fashion-vit"))


@pytest.fixture(scope="module")
def figures():
    return json.loads((HERE / "train.log.jsonl").read_text().splitlines()[-1])


def test_small_and_complete(model):
    assert sum(p.stat().st_size for p in (HERE / "exported").rglob("*")) <= MOST_BYTES
    assert model.source.name == "fashion-vit" and model.processor.class_names == CLASSES
    assert sorted({p.answer for p in model.probes}) == sorted(CLASSES)
    attentions = [n for n in model.parts["vision"].graph if n.op_type == "Softmax"]
    assert len(attentions) >= 6, "layers"


def test_good_enough_to_derive_from(figures):
    assert figures["stage"] == "final" and figures["test"] >= 0.91
    readme = (HERE / "README.md").read_text()
    for split in ("test", "validation"):
        assert f"{100 * figures[split]:.2f} %" in readme
    assert re.sub(r"\s+", " ", figures["command"]) in re.sub(r"[\s\\]+", " ", readme)


def test_its_probes_are_answered_as_they_should(model):
    viewer = Viewer(model.contract, model.processor, ReferenceParts(model.parts))
    right = [CLASSES[int(viewer.look(p.image).argmax())] == p.answer for p in model.probes]
    assert sum(right) >= 0.8 * len(right)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=INSTALL)
def test_as_good_as_the_log_says(model, figures):
    """The first test pictures, shown to ONNX Runtime, lie where the log puts all of them."""
    viewer = Viewer(model.contract, model.processor, ReferenceParts(model.parts))
    pictures, labels = arrays("test")
    found = np.array([
        viewer.look(np.repeat(picture[..., None], 3, axis=2)).argmax()
        for picture in pictures[:SHOWN]
    ])  # fmt: skip
    share, logged = float((found == labels[:SHOWN]).mean()), figures["test"]
    assert abs(share - logged) < 4 * (logged * (1 - logged) / SHOWN) ** 0.5
