"""The cache: built once, whole or not at all, the oldest forgotten, harmless when it cannot be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from edgevlm.compiler.cache import KEEP, cache_root, cached_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))


def write(folder: Path, text: str = "made") -> None:
    (folder / "file").write_text(text)


def test_a_key_is_built_once() -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        write(folder)

    first, second = (cached_folder("kind", "key", build) for _ in range(2))
    assert first == second and len(calls) == 1
    assert (first / "file").read_text() == "made"


def test_two_at_the_same_time_build_once() -> None:
    calls, gate = [], threading.Barrier(2)

    def build(folder: Path) -> None:
        calls.append(folder)
        write(folder)

    def ask() -> None:
        gate.wait()
        cached_folder("kind", "key", build)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_build_that_fails_leaves_no_entry() -> None:
    def fail(folder: Path) -> None:
        write(folder, "half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        cached_folder("kind", "key", fail)
    assert (cached_folder("kind", "key", write) / "file").read_text() == "made"


def test_the_entries_used_last_are_kept() -> None:
    for i in range(KEEP):
        os.utime(cached_folder("kind", f"key{i}", write), (i, i))
    cached_folder("kind", "key0", write)  # used again, so now the youngest
    cached_folder("kind", "new", write)
    left = {p.name for p in (cache_root() / "kind").iterdir() if p.is_dir()}
    assert left == {"key0", "new", *(f"key{i}" for i in range(2, KEEP))}


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("a file where the cache should be")
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "file"))
    made = cached_folder("kind", "key", write)
    assert (made / "file").read_text() == "made" and tmp_path not in made.parents


def test_the_root_follows_the_environment(tmp_path, monkeypatch) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("EDGEVLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "edgevlm"
