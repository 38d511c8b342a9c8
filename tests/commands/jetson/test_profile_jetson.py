"""`edgevlm profile` where engines are built: this machine with a stand-in of a card, or one afar.

The card is ONNX Runtime behind TensorRT's own interface: what is shown is that everything is
copied, built, checked, timed and taken away again, and not how fast a GPU is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgevlm.compiler.bundle import write_sums
from edgevlm.runtimes.tensorrt.on_device.engine import Engine

TARGET = "rtx-4090"  # as a Jetson, but of the architecture of those who run these tests
CALL = ("-n", "3", "--warmup", "1", "--json")


@pytest.fixture
def bundle(compiled, tmp_path):
    """A copy: engines are kept beside it."""
    return shutil.copytree(compiled(TARGET, quant="w8a8"), tmp_path / "card.edgevlm")


def test_here_it_is_built_checked_and_timed(edgevlm, card, bundle):
    card(89)
    ended = edgevlm("profile", bundle, *CALL)
    report = ended.json
    engines = report["engines"]
    assert "engines: tensorrt 10.3.0, SM89; 5 of 5 built now, " in ended.err
    assert engines["library"] == "tensorrt" and engines["cc"] == "SM89"
    assert all(part["ok"] for part in engines["parts"]) and len(engines["parts"]) == 5
    assert engines["goldens"] and all(row["ok"] for row in engines["goldens"])
    assert engines["answers"] and all(row["ok"] for row in engines["answers"])
    assert {"preprocess", "vision", "prefill", "decode"} <= report["stages"].keys()
    folder = bundle.with_name("card.edgevlm.engines")
    assert len(list(folder.glob("*.engine"))) == 5
    again = edgevlm("profile", bundle, *CALL).json["engines"]
    assert {part["why"] for part in again["parts"]} == {""}  # those that were kept
    assert (
        edgevlm("run", bundle, "--image", bundle / "goldens/000.png", "--prompt", "a").status == 0
    )


def test_layers_are_those_of_its_profiler(edgevlm, card, bundle):
    card(89)
    layers = edgevlm("profile", bundle, "--ops", *CALL).json["layers"]
    assert {row["unit"] for row in layers} == {"GPU"}
    assert {row["role"] for row in layers} == {"vision", "connector", "embed", "prefill", "decode"}


def test_layers_take_no_second_set_of_engines(edgevlm, card, bundle, monkeypatch):
    """There may be memory for one alone."""
    card(89)
    opened, load = [], Engine.__init__
    monkeypatch.setattr(Engine, "__init__", lambda self, *a: opened.append(a[3]) or load(self, *a))
    assert edgevlm("profile", bundle, "--ops", *CALL).json["layers"]
    assert sorted(opened) == ["connector", "decode", "embed", "prefill", "vision"]


def test_another_card_is_none(edgevlm, card, bundle):
    """Its numbers run on the CPU then, and its time is refused."""
    card(86)
    assert edgevlm("profile", bundle, *CALL).code == "EV434"
    assert edgevlm("verify", bundle).status == 0
    assert not bundle.with_name("card.edgevlm.engines").exists()


def test_answers_of_engines_are_those_of_the_goldens(edgevlm, card, bundle):
    card(89)
    ended = edgevlm("verify", bundle, "--json")
    assert ended.status == 0 and ended.json["goldens"]["agree"] == ended.json["goldens"]["of"] > 0


def test_afar_it_is_copied_built_checked_timed_and_taken_away(edgevlm, sshd, far_card, bundle):
    far_card(89)
    ended = edgevlm("profile", bundle, "--device", sshd.address, *CALL)
    assert ended.status == 0, ended.err
    report = ended.json
    assert report["engines"]["cc"] == "SM89"
    assert {stage["how"] for stage in report["stages"].values()} == {"measured-device"}
    assert report["device"]["reached"] == "ssh" and sshd.left == []


def test_afar_engines_are_kept_with_the_copy(edgevlm, sshd, far_card, bundle):
    far_card(89)
    call = ("profile", bundle, "--device", sshd.address, *CALL)
    assert edgevlm(*call, "--keep").status == 0
    assert any(name.endswith(".engine") for name in sshd.left)
    again = edgevlm(*call).json["engines"]["parts"]
    assert {part["why"] for part in again} == {""} and sshd.left == []


def test_afar_another_card_is_refused_in_our_words(edgevlm, sshd, far_card, bundle):
    far_card(120)
    ended = edgevlm("profile", bundle, "--device", sshd.address, *CALL)
    assert ended.status != 0 and ended.code == "EV356" and sshd.left == []


def test_afar_without_tensorrt(edgevlm, sshd, bundle):
    """A device of the right architecture that has nothing to build with."""
    ended = edgevlm("profile", bundle, "--device", sshd.address, *CALL)
    assert ended.code == "EV355" and sshd.left == [], ended.err


def test_a_bundle_for_a_jetson_on_another_architecture(edgevlm, sshd, jetson):
    ended = edgevlm("profile", jetson, "--device", sshd.address, *CALL)
    assert (ended.status, ended.code) == (2, "EV434") and sshd.left == []


def test_engines_that_answer_otherwise_are_no_result(edgevlm, sshd, far_card, bundle):
    """What would be timed is not what was compiled."""
    far_card(89)
    goldens = bundle / "tensorrt/goldens.npz"
    with np.load(goldens) as told:
        arrays = dict(told)
    arrays["part/vision/out/image_features"] += 1
    np.savez(goldens, **arrays)
    _sign(bundle, "tensorrt/goldens.npz")
    ended = edgevlm("profile", bundle, "--device", sshd.address, *CALL)
    assert ended.code == "EV353" and "vision/image_features" in ended.err and sshd.left == []


def test_other_tokens_are_no_result(edgevlm, card, bundle):
    """Every part is as it should be, and the answer is another all the same."""
    card(89)
    plan = bundle / "tensorrt/plan.json"
    told = json.loads(plan.read_text())
    told["goldens"][0]["token_ids"] = [*told["goldens"][0]["token_ids"][:-1], 0]
    plan.write_text(json.dumps(told))
    _sign(bundle, "tensorrt/plan.json")
    ended = edgevlm("profile", bundle, *CALL)
    assert ended.code == "EV353" and "1 of 3 goldens have other token ids" in ended.err


def _sign(bundle: Path, name: str) -> None:
    """As if it had been compiled so."""
    manifest, data = bundle / "manifest.json", (bundle / name).read_bytes()
    said = json.loads(manifest.read_text())
    said["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.write_text(json.dumps(said))
    write_sums(bundle)
