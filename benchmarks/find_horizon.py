"""The information horizon of a model: the first layer in front of which all image tokens may leave.

    python benchmarks/find_horizon.py easyvqa-tiny easy-vqa --split train
    python benchmarks/find_horizon.py scenes-tiny scenes --split val --limit 1000

For every layer l the model is compiled to drop every image token in front of it (`horizon` with a
budget of 0) and asked the same questions. The horizon is the smallest l from which on no layer
costs more than `--tolerance` of accuracy; of each kind of question as well, because reading lasts
longer than yes or no. It is a setting, so it is found on a calibration split: test is refused.
Arxiv 2512.07580 reads it off the spread of single tokens' information; this is the sweep it uses
to confirm that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_reduction import opened, recipe_of

from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.generate import ImageTokens, generate
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import Dataset, load_dataset
from edgevlm.models.datasets.scoring import exact_match
from edgevlm.models.source import open_source
from edgevlm.passes import make_passes

Asked = list[tuple[ImageTokens, str]]  # image tokens and a question


def variants(source: ExportedModel) -> Iterator[tuple[int | None, ExportedModel]]:
    """(None, all tokens in all layers), then each layer with none in front of it."""
    for layer in (None, *range(source.contract.layers)):
        prune = None if layer is None else f"horizon:layer={layer}"
        model = source
        for step in make_passes(recipe_of(source, prune, None if layer is None else "0")):
            model = step(model).model
        yield layer, model


def look(answerer: Answerer, dataset: Dataset) -> Asked:
    """Every picture once: the vision part and the connector are the same in all variants."""
    seen: dict[Any, ImageTokens] = {}
    found = []
    for row in dataset.rows:
        key = row.image if isinstance(row.image, Path) else id(row.image)
        if key not in seen:
            seen[key] = answerer.look(row.rgb)
        found.append((seen[key], row.question))
    return found


def ask(answerer: Answerer, asked: Asked) -> tuple[list[str], np.ndarray]:
    """(answers, log probabilities [n,V] of the first word)."""
    said, first = [], []
    for image, question in asked:
        prompt, logits = answerer.prompt(question), []
        given = (answerer.contract, answerer.parts, image, prompt.before, prompt.after)
        ids = list(generate(*given, answerer.text.eos_ids, on_logits=logits.append))
        said.append(answerer.text.decode(ids))
        row = logits[0][0].astype(np.float64)
        row -= row.max()
        first.append(row - np.log(np.exp(row).sum()))
    return said, np.array(first)


def sweep(source: ExportedModel, dataset: Dataset) -> list[dict[str, Any]]:
    """A row for no pruning, then one a layer."""
    kinds, wanted = [r.kind for r in dataset.rows], [r.answer for r in dataset.rows]
    asked, whole, rows = None, None, []
    for layer, model in variants(source):
        with tempfile.TemporaryDirectory() as folder:
            answerer = opened(model, Path(folder))
            asked = asked or look(answerer, dataset)
            said, first = ask(answerer, asked)
        whole = whole or (said, first)
        right = np.array([exact_match(a, b) for a, b in zip(said, wanted, strict=True)])
        lost = (np.exp(whole[1]) * (whole[1] - first)).sum(-1).mean()
        rows.append(
            {
                "layer": layer,
                "accuracy": float(right.mean()),
                "agreement": float(np.mean([a == b for a, b in zip(said, whole[0], strict=True)])),
                "kl": float(lost),
                "kinds": {
                    kind: float(right[[k == kind for k in kinds]].mean())
                    for kind in dataset.kinds
                    if kind in kinds
                },
            }
        )
        show(rows[-1])
    return rows


def horizon(accuracies: list[float], tolerance: float) -> int:
    """Smallest layer from which on nothing costs more; `accuracies` of no pruning, then by layer.

    The number of layers where even the last costs more.
    """
    whole, layers = accuracies[0], accuracies[1:]
    found = len(layers)
    while found and layers[found - 1] >= whole - tolerance:
        found -= 1
    return found


def show(row: dict[str, Any]) -> None:
    name = "all tokens" if row["layer"] is None else f"none from {row['layer']}"
    kinds = "  ".join(f"{kind} {value:.3f}" for kind, value in row["kinds"].items())
    print(
        f"{name:<14} accuracy {row['accuracy']:.3f}  agreement {row['agreement']:.3f}  "
        f"KL {row['kl']:.4f}  {kinds}",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--split", default="train", help="a calibration split, never test")
    parser.add_argument("--limit", type=int, default=500, help="questions")
    parser.add_argument("--tolerance", type=float, default=0.01, help="of accuracy, 0..1")
    asked = parser.parse_args()
    if asked.split == "test":
        parser.error("a setting is not chosen on the test split; take train or val")
    dataset = load_dataset(asked.dataset, asked.split, limit=asked.limit)
    rows = sweep(open_source(asked.model), dataset)
    found = horizon([r["accuracy"] for r in rows], asked.tolerance)
    kinds = {
        kind: horizon([r["kinds"][kind] for r in rows], asked.tolerance)
        for kind in rows[0]["kinds"]
    }
    report = {"model": asked.model, "dataset": asked.dataset, "split": asked.split}
    report |= {"questions": len(dataset.rows), "tolerance": asked.tolerance}
    print(json.dumps({**report, "horizon": found, "kinds": kinds, "rows": rows}, indent=1))
    layers = len(rows) - 1
    print(
        f"l_h = {found} of {layers} layers"
        + (
            f": --tokens 0 --prune horizon:layer={found}"
            if found < layers
            else ": the image is needed to the end"
        ),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
