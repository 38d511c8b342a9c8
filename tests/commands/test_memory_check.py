"""compile says whether the result fits, and refuses before it builds what surely does not."""

from __future__ import annotations

import json

import pytest

from edgevlm.commands import finish
from edgevlm.devices import memory_limits

COMPILE = ("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none", "-o")


@pytest.fixture
def ram(monkeypatch):
    """Makes this machine one of so many GiB."""
    found = memory_limits.describe_host()

    def set_to(gib: float) -> None:
        small = type(found)(**{**vars(found), "ram_gib": gib})
        monkeypatch.setattr(memory_limits, "describe_host", lambda: small)

    return set_to


def test_it_is_told_in_one_line_and_kept_in_the_record(edgevlm, tmp_path):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm(*COMPILE, out, "--json")
    assert ended.err.count("memory: fits with") == 1
    memory = json.loads((out / "record.json").read_text())["memory"]
    assert memory == ended.json["memory"] and memory["verdict"] == "fits"
    assert memory["limit"]["source"] == "this machine"
    total = memory["weights"]["most"] + memory["kv_bytes"] + memory["activations"]["most"]
    assert memory["most_bytes"] == total


def test_what_does_not_fit_is_refused_before_anything_is_built(edgevlm, tmp_path, ram, monkeypatch):
    ram(0.005)  # 5.4 MB for a model of 11
    monkeypatch.setattr(finish, "atomic_folder", lambda *_: pytest.fail("it was built"))
    ended = edgevlm(*COMPILE, tmp_path / "b.edgevlm")
    assert ended.status == 1 and ended.code == "EV343"
    assert "at least 11." in ended.err and "there are 5.37 MB" in ended.err
    assert "--quant w8a8 (about 3." in ended.err and "--force goes on" in ended.err
    assert not (tmp_path / "b.edgevlm").exists()


def test_the_smaller_choice_that_is_named_does_fit(edgevlm, tmp_path, ram):
    ram(0.005)
    ended = edgevlm(*COMPILE, tmp_path / "b.edgevlm", "--quant", "w8a8", "--json", "--quiet")
    assert ended.status == 0 and ended.json["memory"]["verdict"] == "fits"


def test_where_no_choice_would_fit_none_is_named(edgevlm, tmp_path, ram):
    ram(0.0005)
    ended = edgevlm(*COMPILE, tmp_path / "b.edgevlm")
    assert ended.code == "EV343" and "a smaller model, or a device with more memory" in ended.err


def test_force_goes_on_and_says_so(edgevlm, tmp_path, ram):
    ram(0.005)
    ended = edgevlm(*COMPILE, tmp_path / "b.edgevlm", "--force")
    assert ended.status == 0 and "memory: does not fit: it takes at least 11." in ended.err


def test_in_between_it_compiles_with_the_condition(edgevlm, tmp_path, ram):
    ram(0.0105)  # 11.27 MB: between what is needed at least and at most
    ended = edgevlm(*COMPILE, tmp_path / "b.edgevlm", "--json")
    assert ended.status == 0 and ended.json["memory"]["verdict"] == "fits only if"
    assert "memory: fits only if its parts give activations back" in ended.err
