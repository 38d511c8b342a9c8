"""What a VLM is derived for: `--domain FOLDER` of rows, or `--domain DATASET[:n]`.

    FOLDER/rows.jsonl     {"image": "a.png", "question": "what is it?", "answer": "a valve"}
    FOLDER/a.png          pictures lie in the folder or below it; several rows may share one

The files may be a stranger's. A broken row is told by its line; a picture that cannot be read is
left out with its rows and counted, up to one in twenty; nothing outside the folder is read.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.compiler.beside import Probe
from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.models.calibration import calibration_set, dataset_asked
from edgevlm.models.datasets import CLASSIFIED
from edgevlm.models.picture_folders import CalibrationSet
from edgevlm.models.processing.image import load_image
from edgevlm.models.strangers import MOST, check_readable, leads_out, named, shrinking

__all__ = ["ROWS", "domain_set"]

ROWS = "rows.jsonl"
MAX_BYTES = 64 * 2**20
SAMPLE = '{"image": "a.png", "question": "what is it?", "answer": "a valve"}'


class _Row(BaseModel):
    """One line; what else it says is passed over."""

    model_config = ConfigDict(frozen=True, strict=True)

    image: str = Field(min_length=1, max_length=1024)  # from the folder on
    question: str = Field(min_length=1, max_length=4096)
    answer: str = Field(min_length=1, max_length=1024)


def domain_set(asked: str, model: ExportedModel) -> CalibrationSet:
    """Pictures with their questions and answers.

    Raises UsageFault EV250 (no VLM), EV130, EV132 (data set), EV136 (one without questions);
    JobFault EV131 (no rows.jsonl), EV133 (broken rows), EV138 (pictures that cannot be read).
    """
    if model.contract.kind != "vlm":
        raise UsageFault(
            "EV250",
            f"--domain {asked[:80]} of {model.source.name[:80]}",
            "it answers no questions: a domain is of pictures with questions and answers",
            "--classes A,B --calib FOLDER  derives a classifier"
            if model.contract.kind == "classifier"
            else "--calib FOLDER  fits it to pictures",
        )
    if (name := dataset_asked(asked)) is not None:
        if name in CLASSIFIED:
            raise UsageFault(
                "EV136",
                f"--domain {asked}",
                "this data set asks no questions",
                "--domain easy-vqa:256 or scenes:256, or a folder with rows.jsonl",
            )
        return calibration_set(asked, model)
    folder = Path(asked)
    if not folder.is_dir():
        raise UsageFault(
            "EV130",
            f"--domain {asked[:80]}",
            "it is no folder and no data set",
            f"--domain FOLDER with FOLDER/{ROWS}, or --domain easy-vqa:256",
        )
    return _of_folder(folder, model)


def _of_folder(folder: Path, model: ExportedModel) -> CalibrationSet:
    rows = _rows(folder)
    shrink = shrinking(model)
    wanted, seen, broken = rows[:MOST], {}, []
    for number, row in wanted:
        if row.image in seen:
            continue
        path, seen[row.image] = _inside(folder, number, row.image), None
        try:
            seen[row.image] = shrink(load_image(path))
        except EdgeError as fault:
            broken.append((row.image, fault))
    check_readable(folder, broken, len(seen))
    notes = []
    if len(wanted) < len(rows):
        notes.append(f"of {len(rows)} rows of the domain the first {MOST} were looked at")
    if broken:
        notes.append(
            f"{len(broken)} of {len(seen)} pictures of the domain cannot be read and were left out "
            f"with their rows; the first: {broken[0][0][:120]}"
        )
    probes = (
        Probe(image=seen[row.image], question=row.question, answer=row.answer)
        for _, row in wanted
        if seen[row.image] is not None
    )
    return CalibrationSet(tuple(probes), tuple(notes))


def _rows(folder: Path) -> list[tuple[int, _Row]]:
    """(line, row), in the order of the file; empty lines are none."""
    file = folder / ROWS
    if not file.is_file():
        raise JobFault(
            "EV131",
            f"domain {named(folder)}",
            f"it has no file {ROWS}",
            f"a line a question: {SAMPLE}",
        )
    _stays(folder, file, f"{ROWS} of {named(folder)}")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _broken(folder, None, f"it is bigger than {MAX_BYTES // 2**20} MB")
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(folder, None, str(error)[:200]) from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, _Row.model_validate(json.loads(line))))
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg']}"
            raise _broken(folder, number, why) from error
        except (ValueError, RecursionError) as error:
            raise _broken(folder, number, f"it is not JSON: {str(error)[:120]}") from error
    if not rows:
        raise _broken(folder, None, "it holds no rows")
    return rows


def _inside(folder: Path, number: int, name: str) -> Path:
    """A picture of a row. Raises EV133 where it is not there, or lies elsewhere."""
    path = folder / name
    what = f"line {number} of {ROWS} in {named(folder)}"
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise _elsewhere(what, name, "leads out of the folder")
    _stays(folder, path, what)
    if not path.is_file():
        raise _elsewhere(what, name, "is no file")
    return path


def _stays(folder: Path, path: Path, what: str) -> None:
    if leads_out(folder, path):
        raise _elsewhere(what, path.name, "is a link that leads out of the folder")


def _elsewhere(what: str, name: str, why: str) -> JobFault:
    fix = "name pictures that lie in the folder, or below it"
    return JobFault("EV133", what, f"{name[:120]!r} {why}", fix)


def _broken(folder: Path, number: int | None, why: str) -> JobFault:
    line = "" if number is None else f"line {number} of "
    fix = f"a line a question: {SAMPLE}"
    return JobFault("EV133", f"{line}{ROWS} in {named(folder)}", why, fix)
