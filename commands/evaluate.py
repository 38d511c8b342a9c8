"""`edgevlm eval`: how often a bundle is right on a dataset, overall and by kind of question.

A VLM is asked questions, and its answer is right word for word; a classifier is shown pictures, and
its likeliest class is its answer (`evaluate_classes`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.commands.evaluate_classes import measure_classes
from edgevlm.commands.kept import keep
from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import CLASSIFIED, DATASETS, Dataset, load_dataset
from edgevlm.models.datasets.scoring import Tally

__all__ = ["check_kinds", "evaluate_bundle", "score", "tally_answers"]

Advance = Callable[[int, int], None]


def evaluate_bundle(
    path: Path,
    dataset: str,
    split: str,
    *,
    limit: int | None = None,
    data_dir: Path | None = None,
    classes: str | None = None,
    advance: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """The JSON of `edgevlm eval --json`.

    classes: of a classifier, those to ask for, with commas. Raises EV130-EV133 (dataset), EV135,
    EV220 (classes), EV136 (a bundle and a dataset that do not go together), EV3xx (bundle).
    """
    bundle = open_bundle(path)
    check_kinds(path, bundle.manifest.contract.kind, dataset, classes)
    if dataset in CLASSIFIED:
        rows = load_dataset(dataset, split, data_dir=data_dir)
        found = measure_classes(bundle, rows, limit, classes, advance)
        metric = "top-1"
    else:
        rows = load_dataset(dataset, split, limit=limit, data_dir=data_dir)
        answerer = open_for_answers(bundle).answerer
        start = perf_counter()
        found = {"n": len(rows.rows), **score(answerer, rows, advance)}
        found["seconds"] = round(perf_counter() - start, 2)
        metric = "exact match of the greedy answer"
    report = {
        "schema": 1,
        "bundle": str(path),
        "dataset": dataset,
        "split": split,
        **found,
        "metric": metric,
        "how": "measured-host",
    }
    keep("eval", bundle, report)
    return report


def check_kinds(path: Path, kind: str, dataset: str, classes: str | None) -> None:
    """Raises EV136, EV220; of an unknown data set nothing is known yet."""
    if classes is not None and kind == "vlm":
        raise UsageFault(
            "EV220",
            f"--classes {classes[:80]} of {path.name}",
            "it answers in words and has no classes to choose from",
            "leave it out",
        )
    wanted = "classifier" if dataset in CLASSIFIED else "vlm"
    if kind == wanted or dataset not in DATASETS:
        return
    is_one = {
        "vlm": "it answers questions, and this data set asks none",
        "classifier": "it is a classifier, and this data set asks questions",
        "dense": "it makes maps, which no data set here has",
    }
    fitting = [name for name in DATASETS if (name in CLASSIFIED) == (kind == "classifier")]
    raise UsageFault(
        "EV136",
        f"{path.name} on dataset {dataset}",
        is_one[kind],
        f"edgevlm run {shlex.quote(str(path))} --image IMAGE"
        if kind == "dense"
        else f"--dataset {' or '.join(fitting)}",
    )


def score(
    answerer: Answerer, dataset: Dataset, advance: Advance = lambda d, t: None
) -> dict[str, Any]:
    """How often it is right, as `eval` tells it."""
    tally = tally_answers(answerer, dataset, advance)
    return {"accuracy": tally.overall.accuracy, **tally.as_json()}


def tally_answers(
    answerer: Answerer, dataset: Dataset, advance: Advance = lambda d, t: None
) -> Tally:
    """Ask every row; an image is encoded once for all of its consecutive questions."""
    tally, last, tokens = Tally(), None, None
    for done, row in enumerate(dataset.rows):
        if row.image is not last:
            tokens, last = answerer.look(row.rgb), row.image
        tally.add(answerer.answer(tokens, row.question).text, row.answer, row.kind)
        advance(done + 1, len(dataset.rows))
    return tally
