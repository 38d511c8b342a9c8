"""Make the `exported/` folder of a bundled model: the parts and probes that ship without torch."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from edgevlm.compiler.beside import Probe, Source
from edgevlm.compiler.exported_model import ExportedModel, save_model
from edgevlm.models.datasets import Dataset
from edgevlm.models.hf.checkpoint import Capacity, export_checkpoint

__all__ = ["export", "probes", "put"]


def export(
    name: str, checkpoint: Path, folder: Path, capacity: Capacity, shown: tuple[Probe, ...]
) -> None:
    """Write the exported model of `checkpoint` to `folder`, replacing what is there."""
    model = export_checkpoint(checkpoint, capacity)
    source = Source(name=name, digest=model.source.digest, licence="Apache-2.0")
    put(replace(model, source=source, probes=shown), folder)


def put(model: ExportedModel, folder: Path) -> None:
    """Write it to `folder`, replacing what is there."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "exported"
        draft.mkdir()
        save_model(model, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def probes(data: Dataset, a_kind: int) -> tuple[Probe, ...]:
    """`a_kind` questions of every kind, spread evenly over a split."""
    chosen: list[Probe] = []
    for kind in data.kinds:
        rows = [row for row in data.rows if row.kind == kind]
        step = len(rows) // a_kind
        chosen += [
            Probe(image=row.rgb, question=row.question, answer=row.answer)
            for row in rows[step // 2 :: step][:a_kind]
        ]
    return tuple(chosen)
