"""A classifier with a tower, small enough to be trained on: 17 tokens, 2 blocks, 6 classes.

classifier              its exported model; random weights, so its classes are what it says
pictures(n, seed=...)   ProbeInputs that the classifier's own answer is the truth of
said(model, probes)     its logits [n,classes], by ONNX Runtime
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from micro.chooser import micro_chooser

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel


@pytest.fixture(scope="session")
def classifier() -> ExportedModel:
    return micro_chooser()


def logits_of(model: ExportedModel, probes) -> np.ndarray:
    session = open_session(model.parts["vision"])
    found = [session.run(None, {"pixel_values": p.pixel_values})[0] for p in probes]
    return np.concatenate(found)


@pytest.fixture(scope="session")
def said():
    return logits_of


@pytest.fixture(scope="session")
def pictures(classifier):
    c = classifier.contract

    def make(count: int, seed: int = 0) -> list[ProbeInput]:
        rng = np.random.default_rng(seed)
        size = (count, 1, 3, c.image_height, c.image_width)
        bare = [ProbeInput(x) for x in rng.normal(size=size).astype(np.float32)]
        best = logits_of(classifier, bare).argmax(1)
        names = classifier.processor.class_names
        return [replace(p, truth=names[i]) for p, i in zip(bare, best, strict=True)]

    return make
