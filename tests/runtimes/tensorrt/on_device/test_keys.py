"""Engines are found again for what they were built of, and for nothing else."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.tensorrt.on_device.keys import EngineKey, EngineStore, Kept

KEY = EngineKey("vision", "tensorrt", "10.3.0", 87, "ab" * 32, 2**28)


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "made" / "engines")


def test_what_was_kept_is_found(store):
    path = store.keep(KEY, b"plan", {"build_s": 2.0})
    found = store.find(KEY)
    assert isinstance(found, Kept) and found.plan == b"plan" and found.path == path
    assert found.record["build_s"] == 2.0 and found.record["version"] == "10.3.0"


def test_a_new_folder_has_none(store):
    assert store.find(KEY) == "there is none yet"


OTHERS = {
    "it was built by tensorrt 10.3.0, this is tensorrt 10.7.0": {"version": "10.7.0"},
    "it was built by tensorrt 10.3.0, this is tensorrt_rtx 10.3.0": {"library": "tensorrt_rtx"},
    "it was built on SM87, this is SM110": {"sm": 110},
    "it was built from another artifact": {"digest": "cd" * 32},
    "it was built with another workspace": {"workspace": None},
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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sha256": 3}'])
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


def test_only_prune_removes_and_only_what_is_not_used(store):
    old = replace(KEY, version="10.0.1")
    store.keep(old, b"old", {})
    (store.folder / "vision-x.engine.part").write_bytes(b"half")
    (store.folder / "timing.cache").write_bytes(b"kept")
    (store.folder / "notes.txt").write_text("somebody's")
    fresh = EngineStore(store.folder)
    fresh.keep(KEY, b"plan", {})
    assert len(list(store.folder.iterdir())) == 7
    removed = fresh.prune()
    assert sorted(removed) == [f"{old.name}.engine", f"{old.name}.json", "vision-x.engine.part"]
    names = {path.name for path in store.folder.iterdir()}
    assert names == {f"{KEY.name}.engine", f"{KEY.name}.json", "timing.cache", "notes.txt"}
