"""A classifier with a tower, small enough to be trained on: 17 tokens, 2 blocks, 6 classes.

classifier              its exported model; random weights, so its classes are what it says
pictures(n, seed=...)   ProbeInputs that the classifier's own answer is the truth of
said(model, probes)     its logits [n,classes], by ONNX Runtime
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.verify import ProbeInput

NAMES = ("ape", "bee", "cat", "dog", "eel", "fox")


@pytest.fixture(scope="session")
def classifier(make_micro) -> ExportedModel:
    whole = make_micro(tower=2, grid=(4, 4))
    part = whole.parts["vision"].clone()
    rng, features = np.random.default_rng(5), part.graph.outputs[0]
    width = int(features.shape[-1])
    features.name = "seen"
    build = GraphBuilder(part, "head")
    mean = build("ReduceMean", features, build.const([1]), keepdims=0)
    head = rng.normal(size=(width, len(NAMES))) / 2
    logits = build("MatMul", mean, build.const(head, np.float32))
    logits.name = "logits"
    part.graph.outputs[0] = logits
    build.finish()
    contract = whole.contract.model_copy(update={"kind": "classifier", "vocabulary": len(NAMES)})
    processor = whole.processor.model_copy(update={"class_names": NAMES})
    return replace(whole, contract=contract, parts={"vision": part}, processor=processor, probes=())


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
