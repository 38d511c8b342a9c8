"""A classifier whose answers are known: the class whose grey is nearest to the picture's mean.

    picture [1,3,28,28] -> mean m of 0..1 -> logits 2 c m - c^2, greatest where (m - c)^2 is least

And Fashion-MNIST's files with pictures of one grey each, most of them that of their own class.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from micro.bare import bare_model

__all__ = ["GREYS", "nearest_grey", "shade_classifier", "shade_files", "shades"]

#: one a class; of no three is one in the middle of the others
GREYS = tuple(8 + 18 * k + k * k for k in range(10))
FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}


def shade_classifier(folder: Path, labels: Sequence[str], greys: Sequence[int] = GREYS) -> Path:
    """An ONNX file and its sidecar; without labels where there are none."""
    centres = np.array(greys, np.float32) / 255
    model = bare_model(
        f"""(float[1,3,28,28] picture) => (float[1,{len(greys)}] logits) {{
        a = GlobalAveragePool(picture) f = Flatten(a) logits = Gemm(f, w, b) }}""",
        w=np.repeat(2 * centres[None] / 3, 3, axis=0).astype(np.float32),
        b=(-(centres**2)).astype(np.float32),
    )
    path = folder / "shades.onnx"
    path.write_bytes(model.SerializeToString())
    said = f"labels = {json.dumps(list(labels))}\n" if labels else ""
    zeros, ones = "[0.0, 0.0, 0.0]", "[1.0, 1.0, 1.0]"
    path.with_suffix(".toml").write_text(
        f"{said}[image]\nheight = 28\nwidth = 28\nresample = 'bilinear'\n"
        f"mean = {zeros}\nstd = {ones}\n"
    )
    return path


def shades(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, greys) of the first pictures: class k shows another's grey every k + 2 times."""
    i = np.arange(count)
    labels = i % 10
    wrong = (i // 10) % (labels + 2) == 0
    return labels, np.array(GREYS)[np.where(wrong, (3 * labels + 1) % 10, labels)]


def nearest_grey(greys: np.ndarray, among: Sequence[int]) -> np.ndarray:
    """The class whose grey is nearest, by integers; fails where two are."""
    far = np.abs(greys[:, None] - np.array(GREYS)[list(among)])
    first, second = np.sort(far, axis=1)[:, :2].T
    assert (first < second).all()
    return np.array(among)[far.argmin(axis=1)]


def shade_files(folder: Path, *splits: str) -> Path:
    """The files of Fashion-MNIST that these splits are read from."""
    for prefix, count in (FILES[split] for split in splits):
        labels, greys = shades(count)
        pictures = np.broadcast_to(greys[:, None, None], (count, 28, 28))
        for array, name in ((pictures, "images-idx3"), (labels, "labels-idx1")):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            packed = gzip.compress(head + array.astype(np.uint8).tobytes(), 1)
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(packed)
    return folder
