"""What was measured of a bundle is there for a report later."""

from __future__ import annotations

import json

import pytest

from edgevlm.commands import kept as module
from edgevlm.commands.kept import keep, kept
from edgevlm.compiler.bundle import open_bundle


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache):
    return sorted(cache.glob("measured/*/*/*.json"))


def test_the_newest_comes_first_and_each_kind_apart(cache, micro_bundle):
    bundle = open_bundle(micro_bundle)
    for n in range(3):
        keep("profile", bundle, {"schema": 1, "bundle": "some/path", "n": n})
    keep("eval", bundle, {"schema": 1, "accuracy": 0.5})
    assert [entry["n"] for entry in kept("profile", bundle)] == [2, 1, 0]
    assert [entry["accuracy"] for entry in kept("eval", bundle)] == [0.5]


def test_no_path_is_kept_and_the_moment_is(cache, micro_bundle):
    bundle = open_bundle(micro_bundle)
    keep("profile", bundle, {"schema": 1, "bundle": "some/path"})
    (entry,) = kept("profile", bundle)
    assert entry.keys() == {"schema", "at"}
    assert entry["at"].endswith("Z")


def test_the_oldest_go(cache, micro_bundle, monkeypatch):
    monkeypatch.setattr(module, "KEEP", 2)
    bundle = open_bundle(micro_bundle)
    for n in range(4):
        keep("profile", bundle, {"n": n})
    assert [entry["n"] for entry in kept("profile", bundle)] == [3, 2]


@pytest.mark.parametrize("spoilt", [b"", b"[1]", b"{", b"[" * 100_000, b"\xff"])
def test_a_spoilt_file_is_passed_over(cache, micro_bundle, spoilt):
    bundle = open_bundle(micro_bundle)
    keep("profile", bundle, {"n": 1})
    keep("profile", bundle, {"n": 2})
    files(cache)[0].write_bytes(spoilt)
    assert [entry["n"] for entry in kept("profile", bundle)] == [2]


def test_a_cache_that_cannot_be_made_costs_no_figures(tmp_path, monkeypatch, micro_bundle):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "file"))
    bundle = open_bundle(micro_bundle)
    keep("profile", bundle, {"n": 1})
    assert kept("profile", bundle) == []


def test_profile_and_eval_keep_what_they_print(
    cache, edgevlm, micro_bundle, shade_bundle, shade_data
):
    done = edgevlm("profile", micro_bundle, "-n", "2", "--warmup", "0", "--json")
    said = json.loads(done.out)
    (entry,) = kept("profile", open_bundle(micro_bundle))
    assert entry == {key: value for key, value in said.items() if key != "bundle"} | {
        "at": entry["at"]
    }
    done = edgevlm(
        "eval", shade_bundle, "--dataset", "fashion-mnist", "--data", shade_data, "--json"
    )
    (entry,) = kept("eval", open_bundle(shade_bundle))
    assert entry["accuracy"] == json.loads(done.out)["accuracy"]
