"""Folders of pictures for calibration: by class or loose, damaged, misnamed, hostile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgevlm.compiler.errors import EdgeError
from edgevlm.models import picture_folders
from edgevlm.models.picture_folders import class_folders, flat_folder, in_turns, of_class_folders
from edgevlm.models.probes import MAX_PROBES

NAMES = ("Cat", "dog", "fire truck")


def as_it_is(rgb: np.ndarray) -> np.ndarray:
    return rgb


def draw(path: Path, grey: int = 0, size: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (grey, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """cat: 0, 1, 2; dog: 10; Fire_Truck: 20, 21."""
    home = tmp_path / "home"
    for sub, greys in {"cat": (0, 1, 2), "dog": (10,), "Fire_Truck": (20, 21)}.items():
        for grey in greys:
            draw(home / sub / f"{grey:02d}.png", grey)
    return home


def read(folder: Path, names=NAMES, shrink=as_it_is):
    return of_class_folders(folder, names, shrink)


def refused(folder: Path, code: str, names=NAMES) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        read(folder, names)
    assert caught.value.code == code, str(caught.value)
    return caught.value


def seen(found) -> list[tuple[int, str | None]]:
    return [(int(p.image[0, 0, 0]), p.answer) for p in found.probes]


def test_classes_come_in_turns_under_the_models_own_names(folder):
    found = read(folder)
    assert seen(found) == [
        (20, "fire truck"), (0, "Cat"), (10, "dog"), (21, "fire truck"), (1, "Cat"), (2, "Cat"),
    ]  # fmt: skip
    assert found.notes == ()


def test_a_class_may_have_no_pictures_or_no_sub_folder(folder):
    (folder / "dog" / "10.png").unlink()
    assert {answer for _, answer in seen(read(folder))} == {"Cat", "fire truck"}
    (folder / "dog").rmdir()
    assert len(read(folder).probes) == 5


def test_files_that_are_no_pictures_and_hidden_ones_are_passed_over(folder):
    (folder / "readme.txt").touch()
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / "._00.png").write_bytes(b"resource fork")
    draw(folder / ".thumbs" / "x.png")
    (folder / "cat" / "more.png").mkdir()
    assert len(read(folder).probes) == 6 and len(class_folders(folder)) == 3


@pytest.mark.parametrize(
    ("sub", "said", "fix"),
    [
        ("cats", "the nearest: Cat", "rename it to Cat"),
        ("firetruck", "the nearest: fire truck", "rename it to fire truck"),
        ("zzzz", "no class of this name", "move it elsewhere"),
    ],
)
def test_a_sub_folder_that_is_no_class(folder, sub, said, fix):
    draw(folder / sub / "0.png")
    fault = refused(folder, "EV137")
    assert sub in fault.what and said in fault.why and fix in fault.fix


def test_a_sub_folder_of_two_classes_of_one_name(folder):
    assert "2 classes of the model" in refused(folder, "EV137", (*NAMES, "cat")).why


def test_pictures_beside_sub_folders(folder):
    draw(folder / "loose.png")
    fault = refused(folder, "EV137")
    assert "loose.png" in fault.what and "has no class" in fault.why


def test_a_model_without_names(folder):
    assert "no class names" in refused(folder, "EV137", ()).why


def test_no_picture_at_all(tmp_path):
    (tmp_path / "cat").mkdir()
    assert "each class" in refused(tmp_path, "EV134").fix
    with pytest.raises(EdgeError, match="EV134"):
        flat_folder(tmp_path)


DAMAGE = {
    "empty": b"",
    "no picture": b"<html>404</html>",
    "cut": b"\x89PNG\r\n\x1a\n\0\0",
}


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_one_in_twenty_may_be_broken_and_is_counted(tmp_path, data):
    for i in range(19):
        draw(tmp_path / ("cat" if i % 2 else "dog") / f"{i:02d}.png", i)
    (tmp_path / "cat" / "bad.png").write_bytes(data)
    found = read(tmp_path)
    assert sorted(grey for grey, _ in seen(found)) == list(range(19))
    assert found.notes == (
        "1 of 20 calibration pictures cannot be read and were left out; the first: cat/bad.png",
    )
    (tmp_path / "dog" / "00.png").unlink()  # 1 of 19 is more than one in twenty
    fault = refused(tmp_path, "EV138")
    assert "1 of 19" in fault.what and "cat/bad.png" in fault.why and fault.exit_status == 1


def test_the_same_rule_for_loose_pictures(tmp_path):
    for i in range(19):
        draw(tmp_path / f"{i:02d}.png", i)
    draw(tmp_path / "bad.png")
    os.truncate(tmp_path / "bad.png", 40)
    found = flat_folder(tmp_path)
    assert seen(found) == [(i, None) for i in range(19)] and "bad.png" in found.notes[0]
    (tmp_path / "18.png").unlink()
    with pytest.raises(EdgeError, match="EV138"):
        flat_folder(tmp_path)


def test_what_is_more_than_is_looked_at_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_folders, "MOST", 3)
    found = read(folder)
    assert seen(found) == [(20, "fire truck"), (0, "Cat"), (10, "dog")]
    assert found.notes == ("of 6 calibration pictures the first 3 were looked at",)
    for i in range(MAX_PROBES + 1):
        draw(tmp_path / "many" / f"{i:03d}.png")
    assert len(flat_folder(tmp_path / "many").probes) == MAX_PROBES
    assert flat_folder(tmp_path / "many").notes


@pytest.mark.parametrize("kind", ["picture", "class", "up"])
def test_links_that_lead_out_are_not_followed(folder, tmp_path, kind):
    draw(tmp_path / "secret" / "s.png", 99)
    (folder / "dog" / "10.png").unlink()
    if kind == "picture":
        (folder / "dog" / "l.png").symlink_to(tmp_path / "secret" / "s.png")
    elif kind == "up":
        (folder / "dog" / "l.png").symlink_to("../../secret/s.png")
    else:
        (folder / "dog").rmdir()
        (folder / "dog").symlink_to(tmp_path / "secret")
    assert "leads out" in refused(folder, "EV137").why


def test_links_within_are_and_dangling_ones_cannot_be_read(folder):
    (folder / "dog" / "l.png").symlink_to("../cat/00.png")
    assert (0, "dog") in seen(read(folder))
    (folder / "dog" / "l.png").unlink()
    (folder / "dog" / "l.png").symlink_to("l.png")  # to itself
    assert "1 of 7" in refused(folder, "EV138").what


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "dog" / "p.png")
    assert "not a regular file" in refused(folder, "EV138").why


def test_pictures_are_made_smaller_as_they_are_read(folder):
    found = read(folder, shrink=lambda rgb: rgb[:2, :1])
    assert {p.image.shape for p in found.probes} == {(2, 1, 3)}


@given(st.lists(st.lists(st.integers())))
def test_in_turns_keeps_everything_and_the_order_of_each(groups):
    tagged = [[(i, j, x) for j, x in enumerate(group)] for i, group in enumerate(groups)]
    mixed = in_turns(tagged)
    assert sorted(mixed) == sorted(item for group in tagged for item in group)
    assert [(j, i) for i, j, _ in mixed] == sorted((j, i) for i, j, _ in mixed)
