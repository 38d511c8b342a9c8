"""`edgevlm compile --latency-budget` on the command line: refusals, and once a real clock."""

from __future__ import annotations

import json

import pytest

from edgevlm.commands import compile as compile_module
from edgevlm.devices import find_device
from edgevlm.models.zoo import bundled_folder

CALL = ("compile", "easyvqa-tiny", "--target", "cpu", "--payoff", "none")


@pytest.fixture(scope="module")
def pictures():
    return bundled_folder("easyvqa-tiny") / "probes"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--latency-budget", "5ms", "--alpha", "0.5", "--calib", "P"), "EV220"),
        (("--latency-budget", "5ms"), "EV220"),
        (("--latency-budget", "0ms", "--calib", "P"), "EV250"),
        (("--latency-budget", "5", "--calib", "P"), "EV250"),
        (("--latency-budget", "0.0001ms", "--calib", "P"), "EV251"),
    ],
)
def test_bad_calls(edgevlm, pictures, tmp_path, more, code):
    args = (pictures if word == "P" else word for word in more)
    ended = edgevlm(*CALL, *args, "-o", tmp_path / "b")
    assert (ended.status, ended.code) == (2, code), ended.err
    assert not (tmp_path / "b").exists()


def test_a_target_that_is_not_this_machine(edgevlm, pictures, tmp_path, monkeypatch):
    away = find_device("cpu").model_copy(update={"id": "board", "host": False})
    monkeypatch.setattr(compile_module, "find_device", lambda name: away)
    args = ("--latency-budget", "5ms", "--calib", pictures, "-o", tmp_path / "b")
    ended = edgevlm(*CALL, *args)
    assert (ended.status, ended.code) == (2, "EV251") and "--alpha" in ended.err


def test_with_a_real_clock(edgevlm, pictures, tmp_path):
    """0.65 of what the whole part takes here by the table; times are not looked at."""
    calib = ("--calib", pictures, "--json", "--quiet")
    met = edgevlm(*CALL, *calib, "--latency-budget", "100s", "-o", tmp_path / "met").json
    base = met["derived"]["latency"]
    assert base["trial_ms"] is None and any("nothing is cut" in note for note in met["notes"])
    less = f"{0.65 * base['predicted_ms']:.4f}ms"
    ended = edgevlm(*CALL, *calib, "--latency-budget", less, "-o", tmp_path / "b")
    assert ended.status == 0, ended.err
    latency = ended.json["derived"]["latency"]
    assert latency["table"] == "cached" and latency["measured_ms"] > 0 and latency["base_ms"] > 0
    sizes = [
        next(part["macs"] for part in report["parts"] if part["role"] == "vision")
        for report in (met, ended.json)
    ]
    # a machine that was twice as slow while the table was measured would leave all of it
    assert sizes[1] <= sizes[0] and "budget_ms" not in (tmp_path / "b" / "recipe.toml").read_text()
    record = json.loads((tmp_path / "b" / "record.json").read_text())
    assert record["derived"]["latency"] == latency
    again = edgevlm(*CALL, *calib, "--recipe", tmp_path / "b" / "recipe.toml", "-o", tmp_path / "c")
    assert again.status == 0, again.err
    files = [tmp_path / name / "ort" / "vision.onnx" for name in ("b", "c")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.json["digest"] == ended.json["digest"]


def test_it_is_shown(edgevlm, pictures, tmp_path, monkeypatch):
    ended = edgevlm(*CALL, "--calib", pictures, "--latency-budget", "100s", "-o", tmp_path / "b")
    assert ended.status == 0 and "predicted by the table" in ended.err
    assert "nothing is cut" in ended.err
