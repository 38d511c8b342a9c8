"""Rows of a domain: pictures, questions, answers; files that may be anything."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from edgevlm.compiler.errors import EdgeError
from edgevlm.models import domain_rows
from edgevlm.models.datasets import load_dataset
from edgevlm.models.domain_rows import domain_set


def row(image="a.png", question="what is it", answer="red", **more):
    return {"image": image, "question": question, "answer": answer} | more


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "domain"
    (home / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.new("RGB", (6, 6), (40 * i, 0, 0)).save(home / name)
    return home


@pytest.fixture
def write(folder):
    def make(*lines):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (folder / "rows.jsonl").write_text(text, "utf-8")
        return str(folder)

    return make


def refused(asked, model, code, *said):
    with pytest.raises(EdgeError) as caught:
        domain_set(asked, model)
    fault = caught.value
    told = " ".join(fault.lines())
    assert fault.code == code and all(word in told for word in said), told
    assert all(len(line) < 1000 for line in fault.lines())
    return fault


def test_rows_in_the_order_of_the_file(write, micro_model):
    asked = write(row(), "", row("sub/c.png", "is it red", "no", kind="x"), row("a.png", "is it"))
    found = domain_set(asked, micro_model)
    assert [p.question for p in found.probes] == ["what is it", "is it red", "is it"]
    assert [p.answer for p in found.probes] == ["red", "no", "red"] and not found.notes
    assert [int(p.image[0, 0, 0]) for p in found.probes] == [0, 80, 0]
    assert found.probes[0].image is found.probes[2].image  # read once


def test_a_byte_order_mark_and_windows_lines(folder, micro_model):
    text = "\ufeff" + "\r\n".join(json.dumps(row(answer=a)) for a in ("one", "two"))
    (folder / "rows.jsonl").write_bytes(text.encode())
    assert [p.answer for p in domain_set(str(folder), micro_model).probes] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('"a.png"', "the row"),
        ({"image": "a.png", "question": "q"}, "answer"),
        (row(answer=7), "answer"),
        (row(question=""), "question"),
        (row(question="q" * 5000), "question"),
        (row(image=None), "image"),
    ],
)
def test_a_broken_row_is_told_by_its_line(write, micro_model, line, said):
    refused(write(row(), "", line), micro_model, "EV133", "line 3 of rows.jsonl", said)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("/etc/hostname", "leads out"),
        ("../outside.png", "leads out"),
        ("sub/../../outside.png", "leads out"),
        ("none.png", "is no file"),
        ("sub", "is no file"),
        ("nul\0.png", "leads out"),
        ("link.png", "is a link"),
        ("way/outside.png", "is a link"),
    ],
)
def test_nothing_outside_the_folder_is_read(write, folder, micro_model, image, said):
    Image.new("RGB", (6, 6)).save(folder.parent / "outside.png")
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "way").symlink_to(folder.parent)
    refused(write(row(), row(image)), micro_model, "EV133", "line 2 of rows.jsonl", said)


def test_rows_that_lie_elsewhere(folder, micro_model, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row()))
    (folder / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
    refused(str(folder), micro_model, "EV133", "leads out of the folder")


def test_a_link_within_the_folder_is_a_picture(write, folder, micro_model):
    (folder / "same.png").symlink_to("b.png")
    assert len(domain_set(write(row("same.png")), micro_model).probes) == 1


def test_no_rows(write, folder, micro_model, monkeypatch):
    refused(str(folder), micro_model, "EV131", "no file rows.jsonl")
    refused(write("", " "), micro_model, "EV133", "it holds no rows")
    (folder / "rows.jsonl").write_bytes(b"\xff\xfe\x00")
    refused(str(folder), micro_model, "EV133", "rows.jsonl of domain"[:10])
    monkeypatch.setattr(domain_rows, "MAX_BYTES", 10)
    refused(write(row()), micro_model, "EV133", "bigger than")


def test_pictures_that_do_not_decode(write, folder, micro_model):
    for i in range(40):
        Image.new("RGB", (6, 6), (i, 0, 0)).save(folder / f"{i}.png")
    for name in ("3.png", "30.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n rest")
    asked = write(*(row(f"{i}.png", q) for i in range(40) for q in ("is it", "is it red")))
    found = domain_set(asked, micro_model)
    assert len(found.probes) == 76 and "2 of 40 pictures" in found.notes[0]
    (folder / "7.png").write_bytes(b"")
    refused(asked, micro_model, "EV138", "3 of 40 pictures", "3.png")


def test_more_rows_than_are_looked_at(write, micro_model, monkeypatch):
    monkeypatch.setattr(domain_rows, "MOST", 3)
    found = domain_set(write(*(row(answer=str(i)) for i in range(5))), micro_model)
    assert [p.answer for p in found.probes] == ["0", "1", "2"]
    assert "of 5 rows of the domain the first 3" in found.notes[0]


def test_large_pictures_are_held_as_the_model_sees_them(write, folder, micro_model):
    big = np.random.default_rng(0).integers(0, 256, (500, 400, 3), dtype=np.uint8)
    Image.fromarray(big).save(folder / "big.png")
    (probe,) = domain_set(write(row("big.png")), micro_model).probes
    c = micro_model.contract
    assert probe.image.shape[:2] == (c.image_height, c.image_width)


def test_a_data_set_gives_its_training_rows(micro_model):
    found = domain_set("scenes:9", micro_model).probes
    rows = load_dataset("scenes", "train", limit=9).rows
    assert [(p.question, p.answer) for p in found] == [(r.question, r.answer) for r in rows]


def test_what_is_no_domain(micro_model, tmp_path):
    refused("fashion-mnist:9", micro_model, "EV136", "asks no questions")
    refused("easy-scenes", micro_model, "EV132", "test split")
    refused(str(tmp_path / "none"), micro_model, "EV130", "no folder and no data set")


@pytest.mark.parametrize(("kind", "fix"), [("classifier", "--classes"), ("dense", "--calib")])
def test_models_that_answer_no_questions(write, micro_model, kind, fix):
    more = {"map_channels": 1, "map_height": 4, "map_width": 4} if kind == "dense" else {}
    contract = micro_model.contract.model_copy(update={"kind": kind} | more)
    refused(write(row()), micro_model.with_parts(contract), "EV250", "answers no questions", fix)
