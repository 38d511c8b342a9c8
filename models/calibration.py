"""What ranges and weights are fitted to: `--calib FOLDER` or `--calib DATASET[:n]`.

A data set gives pictures with their questions, from its training split: what is measured on a test
split later must not have been seen here. Pictures of a folder are asked the model's probe questions
in turn. For a classifier pictures have their class as `answer`, where a sub-folder or the data set
tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.class_names import find
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.datasets import CLASSIFIED, DATASETS, Dataset, few, load_dataset
from edgevlm.models.picture_folders import (
    CalibrationSet,
    class_folders,
    flat_folder,
    in_turns,
    of_class_folders,
)
from edgevlm.models.strangers import MOST, shrinking

__all__ = [
    "by_class",
    "calibration_probes",
    "calibration_set",
    "dataset_asked",
    "unseen_rows",
]

#: data set -> the split that may be looked at
SPLITS = {"easy-vqa": "train", "scenes": "train", "fashion-mnist": "train"}
INPUTS = 64  # where no number is given; a scale per tensor hardly changes after that
#: data set -> the split to ask questions of that calibration did not see; never a test split
UNSEEN = {"easy-vqa": "train", "scenes": "validation", "fashion-mnist": "validation"}
ASKED = re.compile(r"([a-z][a-z0-9-]{0,40})(?::([0-9]{1,6}))?")


def calibration_set(asked: str, model: ExportedModel) -> CalibrationSet:
    """Probes for a model to be run on, and what was left out on the way to them.

    Raises UsageFault EV130 (neither a data set nor a folder), EV132 (a number out of range, or a
    data set without a split to calibrate on), EV134 (no picture), EV137 (sub-folders that are not
    the model's classes); JobFault EV131, EV133, EV138, EV11x.
    """
    match = ASKED.fullmatch(asked)
    if match and match[1] in DATASETS:
        count = INPUTS if match[2] is None else int(match[2])
        return CalibrationSet(_of_dataset(match[1], count, model))
    folder = Path(asked)
    if not folder.is_dir():
        raise UsageFault(
            "EV130",
            f"--calib {asked[:80]}",
            f"it is no folder and no data set; data sets are {', '.join(SPLITS)}",
            "--calib FOLDER of pictures, or --calib easy-vqa:64",
        )
    found = _of_folder(folder, model)
    return replace(found, probes=_asked_in_turn(found.probes, model))


def calibration_probes(asked: str, model: ExportedModel) -> tuple[Probe, ...]:
    """The probes of `calibration_set` alone, for where nobody reads notes."""
    return calibration_set(asked, model).probes


def dataset_asked(asked: str) -> str | None:
    """The data set that is named; None for a folder, and for what is neither."""
    match = ASKED.fullmatch(asked)
    return match[1] if match and match[1] in DATASETS else None


def by_class(probes: Iterable[Probe]) -> dict[str, list[int]]:
    """Class -> the places of its probes; those without an answer are in none."""
    found: dict[str, list[int]] = {}
    for i, probe in enumerate(probes):
        if probe.answer is not None:
            found.setdefault(probe.answer, []).append(i)
    return found


def unseen_rows(asked: str | None, count: int, kind: str) -> Dataset | None:
    """At most `count` rows with answers, none calibrated on, that a model of this kind can answer.

    None without a data set, or with one for other models.
    """
    match = ASKED.fullmatch(asked or "")
    if match is None or match[1] not in UNSEEN:
        return None
    name, given = match[1], INPUTS if match[2] is None else int(match[2])
    if kind != ("classifier" if name in CLASSIFIED else "vlm"):
        return None
    found = load_dataset(name, UNSEEN[name], limit=count + given)
    rows = found.rows
    if UNSEEN[name] == SPLITS[name]:
        seen = {(r.image, r.question) for r in load_dataset(name, SPLITS[name], limit=given).rows}
        rows = tuple(r for r in rows if (r.image, r.question) not in seen)
    return replace(found, rows=rows[:count])


def _of_folder(folder: Path, model: ExportedModel) -> CalibrationSet:
    """Sub-folders mean something to a classifier alone."""
    if model.contract.kind != "classifier" or not class_folders(folder):
        return flat_folder(folder)
    return of_class_folders(folder, model.processor.class_names, shrinking(model))


def _asked_in_turn(probes: Iterable[Probe], model: ExportedModel) -> tuple[Probe, ...]:
    questions = [probe.question for probe in model.probes]
    return tuple(
        probe.model_copy(update={"question": questions[i % len(questions)]})
        for i, probe in enumerate(probes)
    )


def _of_dataset(name: str, count: int, model: ExportedModel) -> tuple[Probe, ...]:
    if name not in SPLITS:
        raise UsageFault(
            "EV132",
            f"--calib {name}",
            "it has a test split only, and what is measured must not be calibrated on",
            f"--calib {' or '.join(SPLITS)}",
        )
    if not 1 <= count <= MOST:
        raise UsageFault(
            "EV132",
            f"--calib {name}:{count}",
            f"1 to {MOST} inputs can be looked at",
            f"--calib {name}:{INPUTS}",
        )
    if name in CLASSIFIED:
        return _asked_in_turn(_of_classes(load_dataset(name, SPLITS[name]), count, model), model)
    rows = load_dataset(name, SPLITS[name], limit=count).rows
    told = model.contract.kind == "vlm"  # "yes" is no class
    return tuple(
        Probe(
            image=row.rgb,
            question=row.question,
            answer=row.answer if told else None,
        )
        for row in rows
    )


def _of_classes(dataset: Dataset, count: int, model: ExportedModel) -> list[Probe]:
    """As many of each class (or one more), in turns; answers are spelt as the model's classes."""
    least, more = divmod(count, len(dataset.kinds))
    shares = {kind: least + (i < more) for i, kind in enumerate(dataset.kinds)}
    rows = in_turns([few(dataset, n, {kind}).rows for kind, n in shares.items() if n])
    names = model.processor.class_names if model.contract.kind == "classifier" else ()
    known = {kind: names[at[0]] for kind in shares if len(at := find(names, kind)) == 1}
    return [
        Probe(
            image=row.rgb,
            question=row.question,
            answer=known.get(row.answer),
        )
        for row in rows
    ]
