"""A folder appears whole or not at all, and nothing but a bundle is ever replaced."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from edgevlm.compiler import atomic
from edgevlm.compiler.atomic import atomic_folder
from edgevlm.compiler.errors import EdgeError, JobFault, UsageFault


def fill(folder: Path, text: str = "new") -> None:
    """The least that counts as a bundle."""
    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_text(text)
    manifest = {"schema": 1, "edgevlm": "0", "files": {"sub/data": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make(target: Path, text: str = "old") -> Path:
    with atomic_folder(target) as draft:
        fill(draft, text)
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def text_of(target: Path) -> str:
    return (target / "sub" / "data").read_text()


@pytest.fixture(params=["renameat2", "plain"])
def kernel(request, monkeypatch):
    """With the one-step exchange of Linux, and as on a file system that lacks it."""
    if request.param == "plain":
        monkeypatch.setattr(atomic, "_rename", lambda a, b, flag: False)
    return request.param


def test_the_folder_appears_when_all_is_written(tmp_path, kernel):
    target = tmp_path / "b"
    with atomic_folder(target) as draft:
        fill(draft)
        assert (
            not target.exists() and draft.parent == tmp_path and draft.name.startswith(".b.draft-")
        )
    assert text_of(target) == "new" and names(tmp_path) == ["b"]


def test_force_replaces_an_old_one(tmp_path, kernel):
    target = make(tmp_path / "b")
    with atomic_folder(target, force=True) as draft:
        fill(draft)
        assert text_of(target) == "old"
    assert text_of(target) == "new" and names(tmp_path) == ["b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_way_out_but_the_clean_one_leaves_the_old(tmp_path, kernel, error):
    target = make(tmp_path / "b")
    with pytest.raises(error), atomic_folder(target, force=True) as draft:
        fill(draft)
        raise error
    assert text_of(target) == "old" and names(tmp_path) == ["b"]


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"),
     (errno.EFBIG, "File too large"), (errno.EIO, "Input/output error")],
)  # fmt: skip
def test_a_disk_that_fails_is_told(tmp_path, number, why):
    target = make(tmp_path / "b")
    with pytest.raises(JobFault, match="EV311") as caught, atomic_folder(target, True) as draft:
        fill(draft)
        raise OSError(number, os.strerror(number))
    assert why in caught.value.why and "nothing was changed" in caught.value.why
    assert text_of(target) == "old" and names(tmp_path) == ["b"]


@pytest.mark.parametrize("step", ["_flush", "_put"])
def test_a_failure_while_it_is_put_in_place_leaves_the_old(tmp_path, monkeypatch, step):
    target = make(tmp_path / "b")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(atomic, step, fail)
    with pytest.raises(JobFault, match="EV311"), atomic_folder(target, force=True) as draft:
        fill(draft)
    assert text_of(target) == "old" and names(tmp_path) == ["b"]


def test_without_exchange_a_failed_rename_moves_the_old_one_back(tmp_path, monkeypatch):
    target = make(tmp_path / "b")
    real = Path.rename

    def rename(self: Path, to: Path) -> Path:
        if ".draft-" in self.name and to.name == "b" and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return real(self, to)

    monkeypatch.setattr(atomic, "_rename", lambda a, b, flag: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(JobFault, match="EV311"), atomic_folder(target, force=True) as draft:
        fill(draft)
    monkeypatch.undo()
    assert text_of(target) == "old" and names(tmp_path) == ["b"]


def test_an_old_bundle_set_aside_by_a_killed_compile_comes_back(tmp_path):
    """Without exchange neither name is taken for a moment, and a kill may fall into it."""
    make(tmp_path / "b").rename(tmp_path / ".b.draft-1-ab.old")
    with pytest.raises(ValueError), atomic_folder(tmp_path / "b", force=True):
        assert text_of(tmp_path / "b") == "old"
        raise ValueError
    assert text_of(tmp_path / "b") == "old" and names(tmp_path) == ["b"]
    make(tmp_path / "c").rename(tmp_path / ".b.draft-2-cd.old")  # here the new one was in place
    with atomic_folder(tmp_path / "b", force=True) as draft:
        fill(draft)
    assert text_of(tmp_path / "b") == "new" and names(tmp_path) == ["b"]


def test_leftovers_are_swept_and_other_names_are_not(tmp_path):
    (tmp_path / "[x]").mkdir()
    for name in (".b.draft-99-ab", ".bb.draft-1-ab", ".b.draft", "b.draft-1"):
        (tmp_path / name).mkdir()
    make(tmp_path / "b")
    assert names(tmp_path) == [".b.draft", ".bb.draft-1-ab", "[x]", "b", "b.draft-1"]
    (tmp_path / ".b[1].draft-99-ab").mkdir()
    make(tmp_path / "b[1]")
    assert not (tmp_path / ".b[1].draft-99-ab").exists()


def test_a_leftover_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / ".b.draft-99-ab").symlink_to(tmp_path / "precious")
    make(tmp_path / "b")
    assert (tmp_path / "precious" / "file").exists()


def test_the_draft_of_a_neighbour_in_this_process_stays(tmp_path):
    with atomic_folder(tmp_path / "b") as first:
        fill(first, "first")
        with pytest.raises(RuntimeError), atomic_folder(tmp_path / "b") as second:
            assert first.exists() and second != first
            raise RuntimeError
        assert first.exists()
    assert text_of(tmp_path / "b") == "first"


def test_who_comes_second_is_refused_unless_forced(tmp_path):
    target = tmp_path / "b"
    with pytest.raises(UsageFault, match="EV310"), atomic_folder(target) as late:
        fill(late, "late")
        make(target, "early")
    assert text_of(target) == "early"
    with atomic_folder(target, force=True) as late:
        fill(late, "late")
        with atomic_folder(target, force=True) as early:
            fill(early, "early")
    assert text_of(target) == "late" and names(tmp_path) == ["b"]


def _compile(target: Path, text: str, start: threading.Barrier, force: bool) -> None:
    start.wait()
    try:
        with atomic_folder(target, force) as draft:
            fill(draft, text)
    except EdgeError as error:
        raise SystemExit(3 if error.code == "EV310" else 4) from error


@pytest.mark.parametrize("force", [False, True])
def test_many_processes_at_once_leave_one_whole_folder(tmp_path, force):
    context = multiprocessing.get_context("fork")
    target, start = tmp_path / "b", context.Barrier(6)
    if force:
        make(target)
    racers = [
        context.Process(target=_compile, args=(target, f"{i}" * 1000, start, force))
        for i in range(6)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    ends = sorted(racer.exitcode for racer in racers)
    assert ends == ([0] * 6 if force else [0] + [3] * 5)
    assert text_of(target) in {f"{i}" * 1000 for i in range(6)}
    assert names(tmp_path) == ["b"]


def test_a_second_signal_waits_until_the_draft_is_gone(tmp_path, monkeypatch):
    """An impatient Ctrl-C while we clean up must not stop the cleaning."""
    real = atomic.shutil.rmtree
    seen = []

    def slow(folder: Path, ignore_errors: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        real(folder, ignore_errors=ignore_errors)
        seen.append(folder.exists())

    monkeypatch.setattr(atomic.shutil, "rmtree", slow)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "b") as draft:
        fill(draft)
        raise ValueError
    assert seen == [False] and names(tmp_path) == []


def test_it_works_in_a_thread_which_has_no_signals(tmp_path):
    worker = threading.Thread(target=make, args=(tmp_path / "b", "thread"))
    worker.start()
    worker.join()
    assert text_of(tmp_path / "b") == "thread"


def test_the_new_folder_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").mkdir()
    assert make(tmp_path / "b").stat().st_mode == (tmp_path / "plain").stat().st_mode
