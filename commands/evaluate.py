"""`edgevlm eval`: exact-match accuracy of a bundle on a dataset, overall and by question type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edgevlm.commands.session import open_for_answers
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import Dataset, load_dataset
from edgevlm.models.datasets.scoring import Tally
from edgevlm.models.processing.image import load_image

__all__ = ["evaluate_bundle", "score"]

Advance = Callable[[int, int], None]


def evaluate_bundle(
    path: Path,
    dataset: str,
    split: str,
    *,
    limit: int | None = None,
    data_dir: Path | None = None,
    advance: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """The JSON of `edgevlm eval --json`. Raises EV13x (dataset), EV3xx (bundle)."""
    rows = load_dataset(dataset, split, limit=limit, data_dir=data_dir)
    opened = open_for_answers(path)
    start = perf_counter()
    tally = score(opened.answerer, rows, advance)
    return {
        "schema": 1,
        "bundle": str(path),
        "dataset": dataset,
        "split": split,
        "n": len(rows.rows),
        **tally,
        "seconds": round(perf_counter() - start, 2),
        "metric": "exact match of the greedy answer",
        "how": "measured-host",
    }


def score(
    answerer: Answerer, dataset: Dataset, advance: Advance = lambda d, t: None
) -> dict[str, Any]:
    """Ask every row; an image is encoded once for all of its consecutive questions."""
    tally, last, tokens = Tally(), None, None
    for done, row in enumerate(dataset.rows):
        if row.image is not last:
            rgb = row.image if isinstance(row.image, np.ndarray) else load_image(row.image)
            tokens, last = answerer.look(rgb), row.image
        tally.add(answerer.answer(tokens, row.question).text, row.answer, row.kind)
        advance(done + 1, len(dataset.rows))
    return {
        "accuracy": tally.overall.accuracy,
        "overall": tally.overall.as_json(),
        "kinds": {kind: s.as_json() for kind, s in tally.by_kind.items()},
    }
