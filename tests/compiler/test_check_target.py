"""What may be written to, and what --force may replace: bundles, and nothing a slip could cost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgevlm.compiler.atomic import atomic_folder, check_target
from edgevlm.compiler.errors import JobFault, UsageFault


def fill(folder: Path, text: str = "new") -> None:
    """The least that counts as a bundle."""
    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_text(text)
    manifest = {"schema": 1, "edgevlm": "0", "files": {"sub/data": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make(target: Path) -> Path:
    with atomic_folder(target) as draft:
        fill(draft, "old")
    return target


@pytest.mark.parametrize(
    ("prepare", "what", "why"),
    [
        (lambda t: t.write_text("x"), "cannot be replaced", "it is a file"),
        (lambda t: t.symlink_to("elsewhere"), "cannot be replaced", "it is a link"),
        (
            lambda t: (t.mkdir(), (t / "thesis.tex").touch()),
            "cannot",
            "no manifest.json of edgevlm",
        ),
        (lambda t: (t.mkdir(), (t / "empty").mkdir()), "cannot", "no manifest.json of edgevlm"),
        (
            lambda t: (t.mkdir(), (t / "manifest.json").write_text('{"name": "a web app"}')),
            "cannot be replaced",
            "no manifest.json of edgevlm",
        ),
        (
            lambda t: (t.mkdir(), (t / "manifest.json").write_text("[" * 10**5)),
            "cannot be replaced",
            "no manifest.json of edgevlm",
        ),
        (
            lambda t: (make(t), (t / "notes.txt").touch()),
            "cannot be replaced",
            "it holds notes.txt, which is not part of the bundle",
        ),
        (
            lambda t: (make(t), (t / "sub" / "link").symlink_to("..")),
            "cannot be replaced",
            "it holds sub/link, which is not part of the bundle",
        ),
    ],
)
def test_force_replaces_nothing_but_bundles(tmp_path, prepare, what, why):
    target = tmp_path / "b"
    prepare(target)
    before = sorted(tmp_path.rglob("*"))
    for force, said in ((False, "nothing is overwritten unasked"), (True, why)):
        with pytest.raises(UsageFault, match="EV310") as caught, atomic_folder(target, force):
            raise AssertionError("must not be entered")
        assert said in caught.value.why
    assert what in caught.value.what
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_bundle_and_an_empty_folder_may_be_replaced(tmp_path):
    (tmp_path / "empty").mkdir()
    damaged = make(tmp_path / "damaged")
    (damaged / "sub" / "data").unlink()
    for name in ("empty", "damaged"):
        with atomic_folder(tmp_path / name, force=True) as draft:
            fill(draft)
        assert (tmp_path / name / "sub" / "data").read_text() == "new"


def test_the_folder_one_stands_in_is_not_pulled_away(tmp_path, monkeypatch):
    target = make(tmp_path / "b")
    monkeypatch.chdir(target / "sub")
    for name in (target, Path(".."), Path("../../b")):
        with pytest.raises(UsageFault, match="EV310"):
            check_target(name, force=True)
    monkeypatch.chdir(tmp_path)
    check_target(target, force=True)
    for name in (Path(), Path(".."), Path("/"), Path("b/..")):
        with pytest.raises(UsageFault, match="EV310"):
            check_target(name, force=True)


def test_a_missing_parent_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UsageFault) as caught:
        check_target(tmp_path / "no such" / "b", force=False)
    assert caught.value.code == "EV310" and caught.value.fix == f"mkdir -p '{tmp_path}/no such'"
    (tmp_path / "file").touch()
    with pytest.raises(UsageFault, match="EV310"):
        check_target(tmp_path / "file" / "b", force=False)


def test_a_parent_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(JobFault, match="EV311") as caught:
        check_target(tmp_path / "b", force=False)
    assert f"{tmp_path} cannot be written to" in caught.value.why


def test_a_name_too_long_for_the_disk_is_told(tmp_path):
    with pytest.raises(JobFault, match="EV311"), atomic_folder(tmp_path / ("b" * 250)):
        raise AssertionError("must not be entered")
