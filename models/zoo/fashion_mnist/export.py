"""Make `exported/` from trained weights: the part and probes that ship without torch.

    python -m edgevlm.models.zoo.fashion_mnist.export weights.safetensors

The probes are pictures of the *train* split, an equal number of each class.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from safetensors.torch import load_file

from edgevlm.compiler.beside import Probe, Source
from edgevlm.compiler.contract import Port
from edgevlm.models.datasets.fashion_mnist import CLASSES, SIDE, arrays
from edgevlm.models.hf.export import export_part
from edgevlm.models.onnx.frontend import import_onnx
from edgevlm.models.zoo.fashion_mnist.config import MEAN, STD
from edgevlm.models.zoo.fashion_mnist.model import Classifier
from edgevlm.models.zoo.training.export import put

__all__ = ["PROBES_A_CLASS", "export"]

HERE = Path(__file__).parent
PROBES_A_CLASS = 2


def export(weights: Path, folder: Path) -> None:
    """Replaces the exported model in `folder`."""
    model = Classifier(len(CLASSES))
    model.load_state_dict(load_file(weights))
    picture = _port("pixel_values", 1, 3, SIDE, SIDE)
    part = export_part("vision", model.folded(), [picture], [_port("logits", 1, len(CLASSES))])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "fashion-vit.onnx"
        file.with_suffix(".toml").write_text(
            f"labels = {list(CLASSES)}\n[image]\nresample = 'bilinear'\n"
            f"mean = {[MEAN] * 3}\nstd = {[STD] * 3}\n"
        )
        ir.save(part, file)
        found = import_onnx(file)
    source = Source(name="fashion-vit", digest=found.source.digest, licence="Apache-2.0")
    put(replace(found, source=source, probes=_probes()), folder)


def _port(name: str, *shape: int) -> Port:
    return Port(name=name, dtype="FLOAT", shape=shape, axes=(None,) * len(shape))


def _probes() -> tuple[Probe, ...]:
    pictures, labels = arrays("train")
    rows = [np.flatnonzero(labels == n)[:PROBES_A_CLASS] for n in range(len(CLASSES))]
    return tuple(
        Probe(image=np.repeat(pictures[i, ..., None], 3, axis=2), question="", answer=name)
        for name, some in zip(CLASSES, rows, strict=True)
        for i in some
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]), HERE / "exported")
