"""Engines are found again for what they were built of, and for nothing else."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.keys import EngineKey, EngineStore, Kept

KEY = EngineKey("vision", "tensorrt", "10.3.0", 87, "ab" * 32, 2**28, "no TF32")


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "made" / "engines", tmp_path / "a.edgevlm")


def test_what_was_kept_is_found(store):
    path = store.keep(KEY, b"plan", {"build_s": 2.0})
    found = store.find(KEY)
    assert isinstance(found, Kept) and found.path == path
    assert found.record["build_s"] == 2.0 and found.record["version"] == "10.3.0"


def test_a_new_folder_has_none(store):
    assert store.find(KEY) == "there is none yet"


OTHERS = {
    "it was built by tensorrt 10.3.0, this is tensorrt 10.7.0": {"version": "10.7.0"},
    "it was built by tensorrt 10.3.0, this is tensorrt_rtx 10.3.0": {"library": "tensorrt_rtx"},
    "it was built on SM87, this is SM110": {"sm": 110},
    "it was built from another artifact": {"digest": "cd" * 32},
    "it was built with another workspace": {"workspace": None},
    "it was built with other options": {"options": ""},
    "there is none yet": {"role": "decode"},
}


@pytest.mark.parametrize("why", OTHERS)
def test_what_does_not_match_is_not_found_and_why_is_said(why, store):
    store.keep(KEY, b"plan", {})
    assert store.find(replace(KEY, **OTHERS[why])) == why


@pytest.mark.parametrize("spoil", [b"plam", b""])
def test_a_damaged_engine_is_not_used(spoil, store):
    store.keep(KEY, b"plan", {}).write_bytes(spoil)
    assert "is damaged" in store.find(KEY)


BROKEN = {
    "network_layers": "x",
    "products": {"gemm": 3},
    "layers": [{"name": "a row without its tensors"}],
}


@pytest.mark.parametrize("key", BROKEN)
def test_a_record_of_another_form_is_none(key, store):
    store.keep(KEY, b"plan", {key: BROKEN[key]})
    assert isinstance(store.find(KEY), str)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JobFault, match="file/engines: Not a directory") as caught:
        EngineStore(tmp_path / "file" / "engines", tmp_path).make_folder()
    assert caught.value.code == "EV354"


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10**5, '{"sha256": 3}'])
def test_a_damaged_record_is_no_engine(text, store):
    store.keep(KEY, b"plan", {}).with_suffix(".json").write_text(text)
    assert isinstance(store.find(KEY), str)


def test_a_full_disk_is_told_and_leaves_nothing(store, monkeypatch):
    def full(self, data):
        self.open("wb").write(bytes(data)[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(JobFault, match="No space left") as caught:
        store.keep(KEY, b"plan", {})
    assert caught.value.code == "EV354" and list(store.folder.iterdir()) == []


def test_a_build_that_was_killed_leaves_no_half_engine(store, monkeypatch):
    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.keep(KEY, b"plan", {})
    assert list(store.folder.iterdir()) == []


THEIRS = ["notes.txt", "thesis.json", "vision-x.engine.part", "vision.engine", "my.cache"]


def test_only_prune_removes_and_only_what_is_ours_and_not_used(store, tmp_path):
    old = replace(KEY, version="10.0.1")
    store.keep(old, b"old", {})
    half, times = f"{old.name}.engine.part", "timing-tensorrt-10.0.1-sm87.cache"
    for name in (*THEIRS, half, times, f"{KEY.name}.engine.part"):
        (store.folder / name).write_bytes(b"x")
    fresh = EngineStore(store.folder, tmp_path / "a.edgevlm")
    fresh.keep(KEY, b"plan", {})
    (store.folder / f"{KEY.name}.json.part").write_bytes(b"x")  # that a killed build left
    (store.folder / "timing-tensorrt-10.3.0-sm87.cache").write_bytes(b"x")
    fresh.used.add(fresh.timing_cache("tensorrt", "10.3.0", 87).name)
    gone = {f"{old.name}.engine", f"{old.name}.json", half, times, f"{KEY.name}.json.part"}
    assert set(fresh.prune(())) == gone
    left = {f"{KEY.name}.engine", f"{KEY.name}.json", "timing-tensorrt-10.3.0-sm87.cache"}
    assert {path.name for path in store.folder.iterdir()} == {*left, *THEIRS}


def test_engines_of_another_bundle_are_not_pruned(store, tmp_path):
    """In a folder that both were told to use; those of our artifacts are ours wherever we lay."""
    store.keep(KEY, b"plan", {})
    other = EngineStore(store.folder, tmp_path / "b.edgevlm")
    assert other.prune({"cd" * 32}) == []
    assert len(other.prune({KEY.digest})) == 2


def test_an_engine_is_not_read_to_be_found(store, monkeypatch):
    """It may be as large as half of the memory, and is read when its turn comes."""
    store.keep(KEY, b"plan", {})
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read"))
    assert isinstance(store.find(KEY), Kept)
