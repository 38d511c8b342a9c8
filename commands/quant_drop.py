"""What quantisation costs in answers: the float model and the quantised one on the same questions.

With a data set behind `--calib`: accuracy on questions that calibration did not see (never of a
test split), in points. Else the probe pictures: nobody knows the truth there, and what counts is
answers that changed, in points; of a dense model 100 x (1 - the worst correlation of a map).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgevlm.commands.evaluate import score
from edgevlm.commands.evaluate_classes import names_in, score_classes
from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.contract import Role
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import PartCaller
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import Answerer, Viewer
from edgevlm.models.calibration import unseen_rows
from edgevlm.models.datasets import Dataset
from edgevlm.passes.quantize.grids import AnyGrid
from edgevlm.passes.quantize.layers import Layer, why_not
from edgevlm.passes.quantize.rounding import to_nearest
from edgevlm.passes.quantize.sensitivity import sensitivities, to_logits

__all__ = ["blamed_layers", "check_drop", "check_limit", "measure_drop"]

QUESTIONS = 500  # 1 point is 5 answers
BLAMED = 3


def check_limit(points: float | None, rounds: bool) -> None:
    """Raises UsageFault EV202 for a limit that means nothing, EV220 where nothing is rounded."""
    if points is None:
        return
    if not rounds:
        raise UsageFault(
            "EV220",
            f"--max-drop {points:g}",
            "nothing is quantised in this compile, so it would do nothing",
            "leave it out, or --quant w8a8",
        )
    if not 0 <= points <= 100:
        raise UsageFault(
            "EV202",
            f"--max-drop {points:g}",
            "it is a number of points, from 0 to 100",
            "--max-drop 1 allows one answer in a hundred",
        )


def measure_drop(
    base: tuple[ExportedModel, PartCaller],
    model: tuple[ExportedModel, PartCaller],
    calib: str | None,
    probes: Sequence[ProbeInput],
) -> dict[str, Any]:
    """Points lost, and of what. Raises EV13x for a data set that cannot be read."""
    rows = unseen_rows(calib, QUESTIONS, base[0].contract.kind)
    if rows is not None and _answerable(base[0], rows):
        before, after = (_accuracy(m, parts, rows) for m, parts in (base, model))
        of, n = f"accuracy on {rows.name} {rows.split}", len(rows.rows)
        drop = 100 * (before - after)
    else:
        sides = [observe(m, probes, parts) for m, parts in (base, model)]
        before = after = None
        of, drop, n = *_changed(base[0].contract.kind, *sides), len(probes)
    return {
        "of": of,
        "before": before,
        "after": after,
        "drop_points": round(drop, 3),
        "n": n,
        "how": "measured-host",
    }


def check_drop(drop: Mapping[str, Any], limit: float, blame: Sequence[str]) -> None:
    """Raises EV234 for a scheme that loses more than `limit` points."""
    if drop["drop_points"] <= limit:
        return
    raise JobFault(
        "EV234",
        f"quantisation loses {drop['drop_points']:.2f} points ({drop['of']}, n = {drop['n']}), "
        f"--max-drop is {limit:g}",
        f"the layers whose weights the outputs feel most: {', '.join(blame)}",
        "more bits, --calib with more inputs, or those layers float in a recipe",
    )


def blamed_layers(base: ExportedModel, seen: Reference, grids: Mapping[str, AnyGrid]) -> list[str]:
    """PART/NODE of the layers whose rounded weights alone change their part's outputs most.

    grids: by PART/OUTPUT of a layer, what its weights were rounded to; measured with these rounded
    to nearest, one layer at a time.
    """
    found: list[tuple[float, str]] = []
    for role, part in base.parts.items():
        feeds = seen.fed(role)
        layers = [
            Layer.of(node)
            for node in part.graph
            if f"{role}/{node.outputs[0].name}" in grids and why_not(node, 1, True) is None
        ]
        if feeds and layers:
            follow = to_logits(base.parts, seen, role)
            errors = sensitivities(part, layers, _rounder(role, grids), feeds, follow)
            found += [(e, f"{role}/{la.node.name}") for e, la in zip(errors, layers, strict=True)]
    return [name for _, name in sorted(found, reverse=True)[:BLAMED]]


def _rounder(role: Role, grids: Mapping[str, AnyGrid]) -> Any:
    def rounded(layer: Layer) -> np.ndarray:
        grid = grids[f"{role}/{layer.node.outputs[0].name}"]
        return to_nearest(layer.rows(), grid, 0, "mse").weights()

    return rounded


def _answerable(model: ExportedModel, rows: Dataset) -> bool:
    """Whether a classifier has the classes of the data set, and no others."""
    names = names_in(model.processor.class_names, rows)
    return model.contract.kind == "vlm" or set(names) == set(rows.kinds)


def _accuracy(model: ExportedModel, parts: PartCaller, rows: Dataset) -> float:
    if model.contract.kind == "vlm":
        answerer = Answerer(model.contract, model.processor, model.tokenizer, parts)
        return score(answerer, rows)["accuracy"]
    known = names_in(model.processor.class_names, rows)
    viewer = Viewer(model.contract, model.processor, parts)
    return score_classes(viewer, rows, known)[0]["accuracy"]


def _changed(kind: str, before: Reference, after: Reference) -> tuple[str, float]:
    pairs = list(zip(before.logits, after.logits, strict=True))
    if kind == "dense":
        worst = min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs)
        return "100 x (1 - correlation) of the worst probe's map", 100 * (1 - float(worst))
    other = sum(a != b for a, b in zip(before.answers, after.answers, strict=True))
    return "probe answers that changed", 100 * other / len(pairs)
