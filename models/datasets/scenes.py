"""Pictures of three to six shapes, drawn by `models/zoo/scenes`, with ten questions each.

    train        500 of the scenes that scenes-tiny was trained on, with questions of their own
    validation   200 scenes, by which its weights were chosen
    test         500 scenes, 5,000 questions, read once after everything

The same pictures and questions wherever they are drawn; nothing is stored.
"""

from __future__ import annotations

from edgevlm.models.datasets import Dataset, Row, check_split
from edgevlm.models.zoo.scenes import dataset, questions, scenes

__all__ = ["SPLITS", "load"]

NAME = "scenes"
SPLITS = {"train": scenes.TRAIN, "validation": scenes.VALIDATION, "test": scenes.TEST}


def load(split: str) -> Dataset:
    """A whole split, scene by scene. Raises UsageFault EV132 unknown split."""
    check_split(NAME, split, tuple(SPLITS))
    rows = (
        Row(scene.image, question, answer, kind)
        for scene, asked in dataset.rows(SPLITS[split])
        for kind, question, answer in asked
    )
    return Dataset(NAME, split, tuple(rows), "Apache-2.0", questions.KINDS)
