"""What a fleet is derived from: a tiny random ViT with five classes, and pictures of these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

from micro.bare import bare_vit

__all__ = ["NAMES", "class_pictures", "vit_file"]

NAMES = ("ant", "bee", "cat", "dog", "eel")


def vit_file(folder: Path) -> Path:
    """An ONNX file and its sidecar."""
    path = folder / "vit.onnx"
    path.write_bytes(_unshared(bare_vit(width=32)).SerializeToString())
    text = f"labels = {json.dumps(NAMES)}\n[image]\nheight = 16\nwidth = 16\n"
    path.with_suffix(".toml").write_text(text)
    return path


def class_pictures(folder: Path) -> Path:
    """FOLDER/<class>/*.png: ten of noise each."""
    rng = np.random.default_rng(2)
    for name in NAMES:
        (folder / name).mkdir()
        for i in range(10):
            noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name / f"{i}.png")
    return folder


def _unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """With matrices of its own for every block, or no head could be narrowed."""
    rng = np.random.default_rng(1)
    tensors = {t.name: t for t in model.graph.initializer}
    for i, node in enumerate(model.graph.node):
        if node.op_type == "MatMul" and node.input[1] in ("qkv_w", "proj_w", "up", "down"):
            old = numpy_helper.to_array(tensors[node.input[1]])
            new = (0.3 * rng.normal(size=old.shape)).astype(np.float32)
            node.input[1] = f"{node.input[1]}_{i}"
            model.graph.initializer.append(numpy_helper.from_array(new, node.input[1]))
    return model
