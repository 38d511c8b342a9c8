"""Read easy-VQA (MIT, Victor Zhou) from the folder of its PyPI package, without importing it.

    <data>/train/questions.json   [[question, answer, image id], ...], 38,575 of them
    <data>/train/images/<id>.png  64 x 64 px, 4,000 of them; <data>/test likewise: 9,673 and 1,000

Its files are all we need, so none of its code is run. The answers are the data set's own: grey is
spelled "gray".
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from edgevlm.compiler.errors import JobFault
from edgevlm.models.datasets import Dataset, Row, check_split

__all__ = ["COLOURS", "INSTALL", "SHAPES", "kind", "load"]

NAME = "easy-vqa"
INSTALL = "pip install --no-deps easy-vqa==1.0"
SHAPES = frozenset({"circle", "rectangle", "triangle"})
COLOURS = frozenset({"blue", "brown", "red", "gray", "green", "black", "teal", "yellow"})
YES_NO = frozenset({"yes", "no"})
MAX_QUESTIONS_BYTES = 64 * 2**20
MAX_QUESTION_CHARACTERS = 1000


def load(split: str, data_dir: Path | None = None) -> Dataset:
    """The whole split "train" or "test", in the order of its file.

    `data_dir` holds train/ and test/; without it the installed package's folder is taken. Raises
    UsageFault EV132 unknown split; JobFault EV131 not installed or no such folder, EV133 malformed
    or missing files.
    """
    check_split(NAME, split, ("train", "test"))
    folder = (data_dir or _installed()) / split
    if not folder.is_dir():
        raise _not_there(f"{folder} is not a folder")
    file = folder / "questions.json"
    rows = _parse(file)
    if not rows:
        raise _malformed(file, "it holds no questions")
    images = {number: folder / "images" / f"{number}.png" for _, _, number in rows}
    for image in images.values():
        if not image.is_file():
            raise _malformed(file, f"it names the missing image {image}")
    made = tuple(
        Row(images[number], question, answer, kind(answer)) for question, answer, number in rows
    )
    return Dataset(NAME, split, made, "MIT", ("colour", "shape", "yes-no"))


def kind(answer: str) -> str:
    """The type a question is counted under: "yes-no", "shape" or "colour"."""
    return "yes-no" if answer in YES_NO else "shape" if answer in SHAPES else "colour"


def _installed() -> Path:
    spec = importlib.util.find_spec("easy_vqa")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise _not_there("the package easy-vqa is not installed")
    return Path(places[0]) / "data"


def _parse(file: Path) -> list[tuple[str, str, int]]:
    """The (question, answer, image id) entries, each checked."""
    try:
        if file.stat().st_size > MAX_QUESTIONS_BYTES:
            raise _malformed(file, f"it is bigger than {MAX_QUESTIONS_BYTES // 2**20} MB")
        entries = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise _malformed(file, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _malformed(file, f"it is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise _malformed(file, "it is not a list of questions")
    for place, entry in enumerate(entries):
        if not _is_sound(entry):
            why = f"entry {place} is not [question, known answer, image id]: {str(entry)[:80]}"
            raise _malformed(file, why)
    return [tuple(entry) for entry in entries]


def _is_sound(entry: object) -> bool:
    match entry:
        case [str(question), str(answer), int(number)]:
            return (
                0 < len(question) <= MAX_QUESTION_CHARACTERS
                and answer in YES_NO | SHAPES | COLOURS
                and number >= 0
                and not isinstance(number, bool)
            )
    return False


def _not_there(why: str) -> JobFault:
    return JobFault("EV131", f"dataset {NAME}", why, INSTALL)


def _malformed(file: Path, why: str) -> JobFault:
    return JobFault("EV133", f"dataset {NAME}, {file}", why, f"{INSTALL} --force-reinstall")
