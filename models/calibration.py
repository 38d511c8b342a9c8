"""What ranges and weights are fitted to: `--calib FOLDER` or `--calib DATASET[:n]`.

A data set gives pictures with their questions, from its training split: what is measured on a test
split later must not have been seen here. Pictures of a folder are asked the model's probe questions
in turn.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.exported_model import ExportedModel, Probe
from edgevlm.models.datasets import DATASETS, Dataset, load_dataset
from edgevlm.models.probes import folder_probes
from edgevlm.models.processing.image import load_image

__all__ = ["calibration_probes", "unseen_rows"]

#: data set -> the split that may be looked at
SPLITS = {"easy-vqa": "train", "scenes": "train"}
INPUTS = 64  # where no number is given; a scale per tensor hardly changes after that
MOST = 4096
#: data set -> the split to ask questions of that calibration did not see; never a test split
UNSEEN = {"easy-vqa": "train", "scenes": "validation"}
ASKED = re.compile(r"([a-z][a-z0-9-]{0,40})(?::([0-9]{1,6}))?")


def calibration_probes(asked: str, model: ExportedModel) -> tuple[Probe, ...]:
    """Probes for a model to be run on.

    Raises UsageFault EV130 (neither a data set nor a folder), EV132 (a number out of range, or a
    data set without a split to calibrate on), EV134 (no picture); JobFault EV131, EV133, EV11x.
    """
    match = ASKED.fullmatch(asked)
    if match and match[1] in DATASETS:
        return _of_dataset(match[1], INPUTS if match[2] is None else int(match[2]))
    folder = Path(asked)
    if not folder.is_dir():
        raise UsageFault(
            "EV130",
            f"--calib {asked[:80]}",
            f"it is no folder and no data set; data sets are {', '.join(SPLITS)}",
            "--calib FOLDER of pictures, or --calib easy-vqa:64",
        )
    questions = [probe.question for probe in model.probes]
    found = folder_probes(folder)
    return tuple(
        probe.model_copy(update={"question": questions[i % len(questions)]})
        for i, probe in enumerate(found)
    )


def unseen_rows(asked: str | None, count: int) -> Dataset | None:
    """At most `count` questions with answers, none calibrated on; None without a data set."""
    match = ASKED.fullmatch(asked or "")
    if match is None or match[1] not in UNSEEN:
        return None
    name, given = match[1], INPUTS if match[2] is None else int(match[2])
    found = load_dataset(name, UNSEEN[name], limit=count + given)
    rows = found.rows
    if UNSEEN[name] == SPLITS[name]:
        seen = {(r.image, r.question) for r in load_dataset(name, SPLITS[name], limit=given).rows}
        rows = tuple(r for r in rows if (r.image, r.question) not in seen)
    return replace(found, rows=rows[:count])


def _of_dataset(name: str, count: int) -> tuple[Probe, ...]:
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
    rows = load_dataset(name, SPLITS[name], limit=count).rows
    return tuple(
        Probe(
            image=row.image if isinstance(row.image, np.ndarray) else load_image(row.image),
            question=row.question,
            answer=row.answer,
        )
        for row in rows
    )
