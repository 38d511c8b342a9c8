"""A classifier with a tower: its features, averaged over tokens, and a linear head.

Its weights are random; what a picture shows is what it says. With `labelled` that is a folder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from PIL import Image

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.answer import image_processor
from micro.model import micro_vlm

__all__ = ["NAMES", "labelled", "micro_chooser", "said_of"]

NAMES = ("ape", "bee", "cat", "dog", "eel", "fox")


def micro_chooser(blocks: int = 2) -> ExportedModel:
    """17 tokens of 16 channels, six classes, each said about as often."""
    whole = micro_vlm(tower=blocks, grid=(4, 4))
    contract = whole.contract.model_copy(update={"kind": "classifier", "vocabulary": len(NAMES)})
    processor = whole.processor.model_copy(update={"class_names": NAMES})
    tower = whole.parts["vision"]
    made = replace(whole, contract=contract, parts={"vision": tower}, processor=processor)
    seen = np.concatenate([look.mean(1) for look in _looks(made, _pictures(made, 300, seed=8))])
    weights = np.random.default_rng(5).normal(size=(seen.shape[1], len(NAMES)))
    weights /= (seen @ weights).std(0)
    made = made.with_parts(vision=_headed(tower.clone(), weights, -(seen @ weights).mean(0)))
    rgb = _pictures(made, 6, seed=9)
    probes = zip(rgb, said_of(made, rgb), strict=True)
    return replace(made, probes=tuple(Probe(image=x, question="?", answer=a) for x, a in probes))


def _headed(part: ir.Model, weights: np.ndarray, bias: np.ndarray) -> ir.Model:
    features = part.graph.outputs[0]
    features.name = "seen"
    build = GraphBuilder(part, "head")
    mean = build("ReduceMean", features, build.const([1]), keepdims=0)
    bare = build("MatMul", mean, build.const(weights, np.float32))
    logits = build("Add", bare, build.const(bias, np.float32))
    logits.name = "logits"
    part.graph.outputs[0] = logits
    build.finish()
    return part


def said_of(model: ExportedModel, rgb: list[np.ndarray]) -> list[str]:
    """The likeliest class of each picture uint8 [H,W,3]."""
    return [model.processor.class_names[look.argmax()] for look in _looks(model, rgb)]


def _looks(model: ExportedModel, rgb: list[np.ndarray]) -> list[np.ndarray]:
    """What the part gives, by ONNX Runtime."""
    session = open_session(model.parts["vision"])
    images = image_processor(model.contract, model.processor)
    return [session.run(None, {"pixel_values": images(x)})[0] for x in rgb]


def labelled(model: ExportedModel, folder: Path, each: int) -> Path:
    """folder/<class>/<n>.png: `each` pictures of every class, each the model's own answer."""
    counts = dict.fromkeys(NAMES, 0)
    for seed in range(100):
        rgb = _pictures(model, 200, seed)
        for x, name in zip(rgb, said_of(model, rgb), strict=True):
            if counts[name] < each:
                (folder / name).mkdir(exist_ok=True, parents=True)
                Image.fromarray(x).save(folder / name / f"{counts[name]:03d}.png")
                counts[name] += 1
        if set(counts.values()) == {each}:
            return folder
    raise AssertionError(f"a class that it never says: {counts}")


def _pictures(model: ExportedModel, count: int, seed: int) -> list[np.ndarray]:
    """Flat colours with noise: classes are told apart by more than the noise."""
    rng, c = np.random.default_rng(seed), model.contract
    size = (c.image_height, c.image_width, 3)
    flat = rng.integers(0, 256, (count, 1, 1, 3))
    noise = rng.normal(0, 40, (count, *size))
    return list((flat + noise).clip(0, 255).astype(np.uint8))
