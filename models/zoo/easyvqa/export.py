"""Make `exported/` from `checkpoint/`: the parts and probes that ship, so that users need no torch.

    python -m edgevlm.models.zoo.easyvqa.export

The probes are images and questions of the easy-VQA *train* split, an equal number of each kind.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from edgevlm.compiler.exported_model import Probe, Source, save_model
from edgevlm.models.datasets import load_dataset
from edgevlm.models.hf.checkpoint import Capacity, export_checkpoint
from edgevlm.models.processing.image import load_image

__all__ = ["CAPACITY", "export"]

HERE = Path(__file__).parent
#: tokens; the longest training question has 20 with its template, answers have 2 with the end token
CAPACITY = Capacity(prompt=32, answer=8)
PROBES_A_KIND = 4


def export(checkpoint: Path, folder: Path) -> None:
    """Write the exported model of `checkpoint` to `folder`, replacing what is there."""
    model = export_checkpoint(checkpoint, CAPACITY)
    source = Source(name="easyvqa-tiny", digest=model.source.digest, licence="Apache-2.0")
    model = replace(model, source=source, probes=_probes())
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "exported"
        draft.mkdir()
        save_model(model, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def _probes() -> tuple[Probe, ...]:
    train = load_dataset("easy-vqa", "train")
    chosen: list[Probe] = []
    for kind in train.kinds:
        rows = [row for row in train.rows if row.kind == kind]
        step = len(rows) // PROBES_A_KIND
        chosen += [
            Probe(image=load_image(row.image), question=row.question, answer=row.answer)
            for row in rows[step // 2 :: step][:PROBES_A_KIND]
        ]
    return tuple(chosen)


if __name__ == "__main__":
    export(HERE / "checkpoint", HERE / "exported")
