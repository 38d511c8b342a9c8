"""The registry, the limit, and easy-VQA read from a folder: sound, missing and malformed."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.models.datasets import DATASETS, Dataset, Row, load_dataset
from edgevlm.models.datasets.easy_vqa import COLOURS, INSTALL, SHAPES
from edgevlm.models.processing.image import load_image

installed = pytest.mark.skipif(
    importlib.util.find_spec("easy_vqa") is None,
    reason=f"the easy-VQA pictures are not here: {INSTALL}",
)
ROWS = [
    ["what shape is present?", "circle", 0],
    ["is there a circle?", "yes", 0],
    ["what color is the circle?", "gray", 0],
    ["is no red shape present?", "no", 7],
]


@pytest.fixture
def folder(tmp_path):
    """A data folder of four questions and two pictures, as both splits."""
    for split in ("train", "test"):
        images = tmp_path / split / "images"
        images.mkdir(parents=True)
        for number in (0, 7):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(images / f"{number}.png")
        (tmp_path / split / "questions.json").write_text(json.dumps(ROWS))
    return tmp_path


def fault(kind, *arguments, **options):
    with pytest.raises(kind) as caught:
        load_dataset(*arguments, **options)
    return caught.value


def test_a_folder_is_read(folder):
    data = load_dataset("easy-vqa", "test", data_dir=folder)
    assert (data.name, data.split, data.licence) == ("easy-vqa", "test", "MIT")
    assert [[r.question, r.answer, int(Path(r.image).stem)] for r in data.rows] == ROWS
    assert [r.kind for r in data.rows] == ["shape", "yes-no", "colour", "yes-no"]
    assert set(data.kinds) == {r.kind for r in data.rows}
    assert load_image(data.rows[3].image)[0, 0].tolist() == [7, 0, 0]


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[",
        "{}",
        "null",
        "[]",
        "[[]]",
        '[["q", "circle"]]',
        '[["q", "circle", 0, 1]]',
        '[["q", "circle", "0"]]',
        '[["q", "circle", "../../x"]]',
        '[["q", "circle", true]]',
        '[["q", "circle", -1]]',
        '[["q", "circle", 0.0]]',
        '[["q", "purple", 0]]',
        '[["", "red", 0]]',
        '[[1, "red", 0]]',
        '[["q", "red", 3]]',
        '[["q", ["red"], 0]]',
        "[" * 100_000,
        json.dumps([["q" * 2000, "red", 0]]),
    ],
)
def test_malformed_questions(folder, broken):
    (folder / "test" / "questions.json").write_text(broken)
    error = fault(JobFault, "easy-vqa", "test", data_dir=folder)
    assert error.code == "EV133" and "questions.json" in error.what
    assert load_dataset("easy-vqa", "train", data_dir=folder).rows


def test_files_that_are_missing_or_not_text(folder):
    (folder / "test" / "images" / "7.png").unlink()
    error = fault(JobFault, "easy-vqa", "test", data_dir=folder)
    assert error.code == "EV133" and "7.png" in error.why
    (folder / "test" / "questions.json").write_bytes(b"\xff\xfe\x00")
    assert fault(JobFault, "easy-vqa", "test", data_dir=folder).code == "EV133"
    (folder / "test" / "questions.json").unlink()
    assert fault(JobFault, "easy-vqa", "test", data_dir=folder).code == "EV133"


def test_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    error = fault(JobFault, "easy-vqa", "test")
    assert error.code == "EV131" and error.fix == "pip install --no-deps easy-vqa==1.0"
    assert fault(JobFault, "easy-vqa", "test", data_dir=tmp_path / "none").code == "EV131"


def test_unknown_name_names_the_nearest():
    error = fault(UsageFault, "easyvqa", "test")
    assert error.code == "EV130" and "easy-vqa" in error.fix and error.exit_status == 2
    assert all(name in fault(UsageFault, "???", "test").fix for name in DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_unknown_split(name):
    error = fault(UsageFault, name, "holiday")
    assert error.code == "EV132" and "test" in error.fix


@pytest.mark.parametrize("limit", [0, -1, True])
def test_bad_limit(folder, limit):
    assert fault(UsageFault, "easy-vqa", "test", limit=limit, data_dir=folder).code == "EV132"


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 80))
def test_limit_takes_one_row_of_each_stretch(total, limit):
    rows = tuple(Row(Path(f"{i}.png"), "q", "yes", "yes-no") for i in range(total))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "fake", lambda split, _: Dataset("fake", split, rows, "MIT", ()))
        kept, again = (load_dataset("fake", "x", limit=limit).rows for _ in range(2))
    places = [int(row.image.stem) for row in kept]
    assert len(places) == min(limit, total) and kept == again
    for i, place in enumerate(places):
        assert i * total // len(places) <= place < (i + 1) * total // len(places)


@installed
@pytest.mark.parametrize(
    ("split", "questions", "pictures"), [("train", 38_575, 4000), ("test", 9673, 1000)]
)
def test_the_published_counts(split, questions, pictures):
    data = load_dataset("easy-vqa", split)
    assert len(data.rows) == questions and len({r.image for r in data.rows}) == pictures
    assert {r.answer for r in data.rows} == SHAPES | COLOURS | {"yes", "no"}
    assert load_image(data.rows[-1].image).shape == (64, 64, 3)


@installed
def test_a_limited_set_is_like_the_whole():
    whole = Counter(r.kind for r in load_dataset("easy-vqa", "test").rows)
    kept = load_dataset("easy-vqa", "test", limit=500).rows
    assert len({r.image for r in kept}) > 450
    for kind, count in Counter(r.kind for r in kept).items():
        assert abs(count / 500 - whole[kind] / whole.total()) < 0.05


def test_easy_scenes_are_generated_alike_each_time():
    first, second = (load_dataset("easy-scenes", "test", limit=50) for _ in range(2))
    for a, b in zip(first.rows, second.rows, strict=True):
        assert np.array_equal(a.image, b.image) and (a.question, a.answer) == (b.question, b.answer)
        assert a.image.dtype == np.uint8 and a.image.ndim == 3 and a.kind in first.kinds


def test_easy_scenes_read_no_folder(tmp_path):
    assert fault(UsageFault, "easy-scenes", "test", data_dir=tmp_path).code == "EV132"
