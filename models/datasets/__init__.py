"""Questions about pictures with one known answer each, for measuring a compiled model.

`DATASETS` is the whole list. Those in `CLASSIFIED` ask nothing: the answer is the picture's class.
Nothing is downloaded: a data set is installed, generated or named by a folder, so that an
evaluation says the same thing offline and a year later.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import UsageFault
from edgevlm.models.processing.image import load_image

__all__ = [
    "CLASSIFIED",
    "DATASETS",
    "Dataset",
    "Row",
    "check_split",
    "few",
    "load_dataset",
]

GOLDEN = 0.6180339887498949  # (sqrt 5 - 1) / 2: its multiples modulo 1 fill 0..1 evenly


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Row:
    """One question. The image is a file, or uint8 [H, W, 3] RGB where it was generated."""

    image: Path | np.ndarray
    question: str
    answer: str
    kind: str  # one of the data set's `kinds`

    @property
    def rgb(self) -> np.ndarray:
        """uint8 [H,W,3]; a file is read. Raises EV11x."""
        return self.image if isinstance(self.image, np.ndarray) else load_image(self.image)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of one split, in a fixed order."""

    name: str
    split: str
    rows: tuple[Row, ...]
    licence: str  # SPDX identifier
    kinds: tuple[str, ...]


def _easy_vqa(split: str, data_dir: Path | None) -> Dataset:
    """4,000 + 1,000 pictures of one shape each, by Victor Zhou."""
    from edgevlm.models.datasets import easy_vqa

    return easy_vqa.load(split, data_dir)


def _easy_scenes(split: str, data_dir: Path | None) -> Dataset:
    """Our own generated scenes of one to three shapes, held out from training."""
    from edgevlm.models.zoo.easyvqa import questions, scenes

    check_split("easy-scenes", split, ("test",))
    _no_folder("easy-scenes", data_dir)
    rows = (
        Row(scene.image, question, answer, questions.kind(answer))
        for scene, asked in scenes.easy_scenes()
        for question, answer in asked
    )
    return Dataset("easy-scenes", split, tuple(rows), "Apache-2.0", ("colour", "shape", "yes-no"))


def _scenes(split: str, data_dir: Path | None) -> Dataset:
    """Our own generated scenes of three to six things of very different sizes."""
    from edgevlm.models.datasets import scenes

    _no_folder("scenes", data_dir)
    return scenes.load(split)


def _fashion_mnist(split: str, data_dir: Path | None) -> Dataset:
    """70,000 grey pictures of ten kinds of clothing, by Zalando."""
    from edgevlm.models.datasets import fashion_mnist

    return fashion_mnist.load(split, data_dir)


def _no_folder(name: str, data_dir: Path | None) -> None:
    if data_dir is not None:
        raise UsageFault(
            "EV132",
            f"dataset {name}, data_dir {data_dir}",
            "it is generated and reads no folder",
            "leave the data folder out",
        )


DATASETS: dict[str, Callable[[str, Path | None], Dataset]] = {
    "easy-vqa": _easy_vqa,
    "easy-scenes": _easy_scenes,
    "scenes": _scenes,
    "fashion-mnist": _fashion_mnist,
}
#: data sets for classifiers: the question is empty, and `kinds` are all the classes there are
CLASSIFIED = frozenset({"fashion-mnist"})


def load_dataset(
    name: str, split: str, *, limit: int | None = None, data_dir: Path | None = None
) -> Dataset:
    """One split, with at most `limit` rows, always the same ones.

    The rows kept are spread evenly over the split, not its first ones: the first hundred rows of
    easy-VQA show only eleven pictures. One row is taken from each of `limit` equal stretches.
    Raises UsageFault: EV130 unknown name, EV132 unknown split or a limit below 1; JobFault: EV131
    not installed, EV133 malformed files.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.4)
        known = f"known are {', '.join(DATASETS)}"
        raise UsageFault(
            "EV130",
            f"dataset {name}",
            f"there is none of that name; {known}",
            f"did you mean {' or '.join(near or DATASETS)}?",
        )
    return few(DATASETS[name](split, data_dir), limit)


def few(dataset: Dataset, limit: int | None, kinds: Collection[str] | None = None) -> Dataset:
    """At most `limit` of its rows (of these kinds), as `load_dataset` says. Raises EV132."""
    if limit is not None and (isinstance(limit, bool) or limit < 1):
        raise UsageFault(
            "EV132",
            f"dataset {dataset.name}, limit {limit}",
            "at least 1 row is needed",
            "give a positive number, or none for all rows",
        )
    rows = tuple(row for row in dataset.rows if kinds is None or row.kind in kinds)
    if limit is not None and limit < len(rows):
        rows = tuple(rows[i] for i in _spread(len(rows), limit))
    return replace(dataset, rows=rows)


def check_split(name: str, split: str, known: tuple[str, ...]) -> None:
    """Raises UsageFault EV132 unless `split` is one of `known`."""
    if split not in known:
        raise UsageFault(
            "EV132",
            f"dataset {name}, split {split}",
            "there is no such split",
            f"use {' or '.join(known)}",
        )


def _spread(total: int, limit: int) -> Iterator[int]:
    """One place in each of `limit` equal stretches of `total`, ascending.

    The place within a stretch wanders by the golden ratio: at a fixed one, 500 of the 5,000 rows of
    easy-scenes would all be the first question of their picture.
    """
    for i in range(limit):
        start, end = i * total // limit, (i + 1) * total // limit
        yield start + int(i * GOLDEN % 1 * (end - start))
