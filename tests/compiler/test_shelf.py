"""What is on the shelf comes back bit for bit, or not at all; it keeps within its bytes."""

from __future__ import annotations

import os
import stat
import time

import numpy as np
import pytest

from edgevlm.compiler.memo import ROOM, Memo
from edgevlm.compiler.shelf import Shelf, bytes_of

KIB = 1024


def some(seed=0, size=100):
    rng = np.random.default_rng(seed)
    named = {"..": rng.integers(0, 9, size), "file": np.ones(1), "names": np.zeros(2)}
    return {"/a/b.c": rng.normal(size=(size, 2)), **named}


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "shelf", "model", 100 * KIB)


def test_it_comes_back_as_it_was(shelf):
    assert shelf.read("key") is None
    shelf.write("key", some())
    back = shelf.read("key")
    assert back.keys() == some().keys()
    assert all(np.array_equal(back[name], array) for name, array in some().items())
    assert [path.suffix for path in shelf.folder.iterdir()] == [".npz"]


def test_what_was_made_of_another_model_is_not_found(shelf):
    shelf.write("key", some())
    assert Shelf(shelf.folder, "another", shelf.limit).read("key") is None
    assert shelf.read("yek") is None


def test_another_archive_is_as_if_it_were_not_there(shelf):
    shelf.write("key", some())
    (file,) = shelf.folder.iterdir()
    for arrays in ({"a": np.ones(2)}, {"names": np.array(["a"])}):
        np.savez(file, **arrays)
        assert shelf.read("key") is None


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_broken_file_is_as_if_it_were_not_there(shelf, at, how):
    shelf.write("key", some(size=1000))
    (file,) = shelf.folder.iterdir()
    data = bytearray(file.read_bytes())
    i = int(at * len(data))
    data[i] ^= 0xFF
    file.write_bytes(data[:i] if how == "cut" else data)
    assert shelf.read("key") is None
    shelf.write("key", some(1))
    assert np.array_equal(shelf.read("key")["/a/b.c"], some(1)["/a/b.c"])


def test_no_pickle_is_opened(shelf):
    shelf.write("key", some())
    (file,) = shelf.folder.iterdir()
    np.savez(file, np.array([{"an": "object"}], dtype=object), names=np.array(["a"]))
    assert shelf.read("key") is None


def test_a_file_that_says_it_is_larger_than_all_is_not_opened(shelf):
    shelf.write("key", some())
    (file,) = shelf.folder.iterdir()
    np.savez_compressed(file, np.zeros(shelf.limit), names=np.array(["a"]))
    assert file.stat().st_size < shelf.limit and shelf.read("key") is None


def earlier(shelf, seconds):
    """All that is there is of a call so long ago."""
    for path in shelf.folder.iterdir():
        at = time.time() - seconds
        os.utime(path, (at, at))
    return Shelf(shelf.folder, shelf.of, shelf.limit)


def test_what_was_not_used_for_longest_goes(shelf):
    size = 30 * KIB // 8
    shelf.write("old", {"a": np.zeros(size)})
    shelf.write("used", {"a": np.ones(size)})
    later = earlier(shelf, 1000)
    assert later.read("used") is not None
    for name in "xy":
        later.write(name, {"a": np.zeros(size)})
    assert later.read("old") is None and later.read("used") is not None
    assert later.read("x") is not None and later.read("y") is not None
    assert sum(path.stat().st_size for path in shelf.folder.iterdir()) <= shelf.limit


def test_work_that_is_larger_does_not_push_itself_out(shelf):
    size = 40 * KIB // 8
    for name in "abcd":
        shelf.write(name, {"a": np.zeros(size)})
    assert [shelf.read(name) is not None for name in "abcd"] == [True, True, False, False]
    shelf.write("large", {"a": np.zeros(shelf.limit)})
    assert shelf.read("large") is None and shelf.read("a") is not None


def test_a_draft_that_was_left_goes_with_the_rest(shelf):
    shelf.write("key", some())
    (shelf.folder / ".x.npz.1.part").write_bytes(bytes(90 * KIB))
    later = earlier(shelf, 1000)
    later.write("new", {"a": np.zeros(50 * KIB // 8)})
    assert not list(shelf.folder.glob(".*")) and later.read("new") is not None


def test_a_folder_that_is_not_ours_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    shelf = Shelf(tmp_path / "file", "model", KIB)
    shelf.write("key", some())
    assert shelf.read("key") is None


def test_a_full_disk_leaves_nothing(shelf, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    shelf.write("key", some())
    assert list(shelf.folder.iterdir()) == [] and shelf.read("key") is None


def test_one_that_is_stopped_leaves_no_draft(shelf, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", stopped)
    with pytest.raises(KeyboardInterrupt):
        shelf.write("key", some())
    assert list(shelf.folder.iterdir()) == []


def test_a_memo_reads_what_an_earlier_one_made(shelf):
    made = []

    def make():
        made.append(1)
        return some()

    first = Memo(ROOM, shelf=shelf)
    assert [first.arrays("key", make) is not None for _ in range(2)] == [True, True]
    assert (first.made, first.found, first.held) == (1, 1, bytes_of(some()))
    later = Memo(ROOM, shelf=shelf)
    again = later.arrays("key", make)
    assert len(made) == 1 and np.array_equal(again["/a/b.c"], some()["/a/b.c"])
    assert (later.made, later.found, later.held) == (0, 1, first.held)
    assert later.arrays("key", make) is again
    alone = Memo(ROOM)
    alone.arrays("key", make)
    assert len(made) == 2 and alone.made == 1


def test_files_are_for_who_made_them_to_read(shelf):
    shelf.write("key", some())
    (file,) = shelf.folder.iterdir()
    assert not file.stat().st_mode & stat.S_IWOTH
