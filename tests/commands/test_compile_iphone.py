"""`--target iphone`: Core ML and Core AI of one model in a bundle, each proved by itself."""

from __future__ import annotations

import json

import pytest

from edgevlm.compiler.exported_model import save_model
from edgevlm.runtimes.coreml.runtime import CoremlRuntime

pytest.importorskip("coremltools", reason="packages are made by: pip install 'edgevlm[coreml]'")
pytest.importorskip("coreai_torch", reason="assets are made by: pip install 'edgevlm[coreai]'")


@pytest.fixture(scope="module")
def source(make_micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    save_model(make_micro(layers=1, width=32, heads=2), folder)
    return folder


@pytest.fixture(scope="module")
def both(edgevlm, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "both.edgevlm"
    ended = edgevlm("compile", source, "--target", "iphone", "-o", out, "--json")
    assert ended.status == 0, ended.err
    return out, ended.json


def test_one_bundle_has_both(both):
    out, report = both
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["target"]["runtime"], manifest["target"]["sdk"]) == ("coreml", {"ios": "18"})
    other = manifest["also"][0]
    assert other["runtime"] == "coreai" and other["sdk"]["ios"] == "27"
    roles = [a["role"] for a in manifest["artifacts"]]
    assert [a["role"] for a in other["artifacts"]] == roles
    assert set(manifest["verified"]) >= {"artifacts", "coreai"}
    for runtime, suffix in (("coreml", "mlpackage"), ("coreai", "aimodel")):
        assert any(f".{suffix}/" in name for name in manifest["files"])
        assert any(name.startswith(f"app/{runtime}/") for name in manifest["files"])
    told = report["also"][0]
    assert told["answers"]["agree"] == told["answers"]["probes"]
    assert min(drift["sqnr_db"] for drift in told["drift"].values()) > 80


def test_where_ops_likely_run_is_predicted_and_not_verified(both, edgevlm, source, tmp_path):
    out, report = both
    manifest = json.loads((out / "manifest.json").read_text())
    assert "preflight" not in manifest["verified"]
    assert manifest["not_verified"]["preflight"].startswith("predicted, and asked of no device")
    assert [row[1] for row in report["preflight"]["table"]["rows"]] == ["predicted"] * 5
    again = tmp_path / "b.edgevlm"
    shown = edgevlm("compile", source, "--target", "iphone", "--os", "18", "-o", again)
    assert shown.status == 0, shown.err
    for text in ("preflight by rules of the Neural Engine", "predicted", "compute_plan"):
        assert text in shown.out + shown.err


def test_it_answers_and_verifies_and_is_inspected(both, edgevlm):
    out, _ = both
    assert edgevlm("verify", out).status == 0
    seen = edgevlm("inspect", out, "--json").json
    assert [p["role"] for p in seen["parts"]] == [
        "vision",
        "connector",
        "embed",
        "prefill",
        "decode",
    ]
    predicted = edgevlm("profile", out, "--device", "iphone", "--json")
    assert predicted.status == 0
    timed = edgevlm("profile", out)
    assert timed.status == 2 and "EV434" in timed.err


def test_a_second_asset_that_was_changed_is_told(both, edgevlm, tmp_path):
    import shutil

    out, _ = both
    copy = tmp_path / "b.edgevlm"
    shutil.copytree(out, copy)
    file = next(copy.glob("coreai/*/main.mlirb"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    ended = edgevlm("verify", copy)
    assert ended.status == 1 and "EV330" in ended.err and "main.mlirb" in ended.err


def test_one_system_alone(edgevlm, source, tmp_path):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm("compile", source, "--target", "iphone", "--os", "27", "-o", out, "--json")
    assert ended.status == 0, ended.err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["target"]["runtime"] == "coreai" and manifest["also"] == []
    assert not (out / "coreml").exists()


def test_channels_first(edgevlm, source, tmp_path):
    out = tmp_path / "b.edgevlm"
    asked = ("--os", "18", "--layout", "channels", "-o", out, "--json")
    ended = edgevlm("compile", source, "--target", "iphone", *asked)
    assert ended.status == 0, ended.err
    passes = json.loads((out / "record.json").read_text())["passes"]
    (note,) = [n for p in passes if p["name"] == "channels-first"
               for n in p["notes"] if n["where"] == "prefill"]  # fmt: skip
    assert note["kind"] == "matched" and "head by head" in note["why"]
    other = ("--target", "cpu", "--layout", "channels", "-o", tmp_path / "c.edgevlm")
    ended = edgevlm("compile", source, *other)
    assert (ended.status, ended.code) == (2, "EV220")


def test_without_core_ai_it_says_so(edgevlm, source, tmp_path, monkeypatch):
    why = "runtime coreai lacks a package: pip install it"
    monkeypatch.setattr(CoremlRuntime, "_core_ai_missing", lambda self: why)
    out = tmp_path / "b.edgevlm"
    ended = edgevlm("compile", source, "--target", "iphone", "-o", out, "--json")
    assert ended.status == 0 and ended.json["also"] == []
    assert f"left out, for iOS 27: {why}" in ended.json["notes"]


def test_systems_and_toolchains_exclude_each_other(edgevlm, source, tmp_path):
    call = ["compile", source, "--target", "iphone", "-o", tmp_path / "b.edgevlm", "--os", "18"]
    ended = edgevlm(*call, "--toolchain", "ios-18")
    assert ended.status == 2 and "EV220" in ended.err
    ended = edgevlm(*call[:-1], "12")
    assert ended.status == 2 and "EV308" in ended.err
    for target in ("pixel-9", "host-cpu"):
        ended = edgevlm("compile", source, "--target", target, "-o", tmp_path / "c", "--os", "18")
        assert (ended.status, ended.code) == (2, "EV220") and f"--os 18 for {target}" in ended.err


def test_caches_of_codes_are_told_before_a_pass_has_run(edgevlm, source, tmp_path):
    call = ("compile", source, "--target", "iphone", "--kv", "int8", "-o", tmp_path / "b.edgevlm")
    ended = edgevlm(*call)
    assert ended.code == "EV303" and "--os 27" in ended.err and "fold-constants" not in ended.err
