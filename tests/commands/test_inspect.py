"""`edgevlm inspect`: models and bundles, their ports, ops, axes and drift; and classifiers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgevlm.compiler.contract import Contract
from edgevlm.compiler.exported_model import ExportedModel, save_model


def test_a_model_by_name(edgevlm):
    report = edgevlm("inspect", "easyvqa-tiny", "--json").json
    assert (report["schema"], report["kind"]) == (1, "model")
    assert report["source"]["name"] == "easyvqa-tiny" and report["contract"]["image_tokens"] == 64
    vision = report["parts"][0]
    assert vision["role"] == "vision" and vision["opset"] == 23
    assert vision["inputs"] == {"pixel_values": ["FLOAT", [1, 3, 64, 64]]}
    assert sum(vision["ops"].values()) == vision["nodes"] and vision["macs"] > 10**7


def test_a_bundle_shows_what_was_made_of_it(edgevlm, bundle):
    report = edgevlm("inspect", bundle, "--json").json
    assert report["kind"] == "bundle" and report["contract"]["kept_image_tokens"] == 16
    assert report["bytes"] == sum(
        entry["bytes"]
        for entry in json.loads((bundle / "manifest.json").read_text())["files"].values()
    )
    assert report["image_tokens"]["schedule"] == [{"at": "connector", "tokens": 16}]
    steps = {step["name"]: step for step in report["passes"]}
    asked = {"keep": 16, "method": "dart", "at": "connector-out"}
    assert steps["keep-tokens"]["options"].items() >= asked.items()
    assert steps["quantize-weights"]["changed"] is True
    whole = {p["role"]: p for p in edgevlm("inspect", "easyvqa-tiny", "--json").json["parts"]}
    for part in report["parts"]:
        assert part["weight_bytes"] < 0.4 * whole[part["role"]]["weight_bytes"]  # int8
    assert report["not_verified"]["latency"].startswith("edgevlm profile")


@pytest.mark.parametrize("source", ["model", "bundle", "pruned bundle"])
def test_axes_name_the_dimensions_of_every_value(edgevlm, bundle, micro_bundle, source):
    name = {"model": "easyvqa-tiny", "bundle": micro_bundle, "pruned bundle": bundle}[source]
    ended = edgevlm("inspect", name, "--axes", "--json")
    assert ended.status == 0
    for part in ended.json["parts"]:
        assert len(part["axes"]) > part["nodes"]
        for port, (_, shape) in (part["inputs"] | part["outputs"]).items():
            assert len(part["axes"][port]) == len(shape)
    axes = {part["role"]: part["axes"] for part in ended.json["parts"]}
    if source != "bundle":  # an axis of size 1 has no name, and micro has one head
        assert axes["decode"]["past_key_0"] == ["1", "head", "kv", "head_dim"]
        assert axes["vision"]["image_features"] == ["1", "token", "channel"]
    assert axes["prefill"]["position_ids"] == ["1", "token"]
    assert "vision: axes" in ended.err and "past_key_0" in ended.err


def test_ops_are_a_table_of_their_own(edgevlm, micro_bundle):
    plain, listed = edgevlm("inspect", micro_bundle), edgevlm("inspect", micro_bundle, "--ops")
    assert "decode: ops" not in plain.err and "decode: ops" in listed.err
    assert "RotaryEmbedding" in listed.err
    assert (
        edgevlm("inspect", micro_bundle, "--json").json
        == edgevlm("inspect", micro_bundle, "--ops", "--json").json
    )


def test_ports_that_do_not_fit_are_counted(edgevlm, bundle):
    assert ", 8 more" in " ".join(edgevlm("inspect", bundle).err.split())


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, micro_model, graph):
    """A plain ViT as small as can be: 3 classes by the mean colour of the picture."""
    part = graph(
        """(float[1,3,6,6] pixel_values) => (float[1,3] logits) {
        a = ReduceMean<keepdims = 0>(pixel_values, axes) logits = MatMul(a, weight) }""",
        axes=np.array([2, 3]),
        weight=np.eye(3, dtype=np.float32),
    )
    contract = Contract(
        **{**micro_model.contract.model_dump(), "kind": "classifier", "vocabulary": 3}
    )
    probes = tuple(
        replace_probe(probe, np.full((6, 6, 3), 20, np.uint8) + np.eye(3, dtype=np.uint8)[i] * 200)
        for i, probe in enumerate(micro_model.probes)
    )
    model = ExportedModel(
        contract, {"vision": part}, micro_model.processor, micro_model.tokenizer,
        micro_model.source, probes,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("classifier") / "model"
    folder.mkdir()
    save_model(model, folder)
    return folder


def replace_probe(probe, image):
    return probe.model_copy(update={"image": image.astype(np.uint8)})


def test_a_classifier_goes_the_same_way(edgevlm, classifier, tmp_path, picture):
    out = tmp_path / "c.edgevlm"
    made = edgevlm("compile", classifier, "--target", "cpu", "-o", out, "--json")
    assert made.status == 0 and [p["role"] for p in made.json["parts"]] == ["vision"]
    assert made.json["next"][-1] == f"edgevlm verify {out}"
    goldens = json.loads((out / "manifest.json").read_text())["goldens"]
    assert [golden["token_ids"] for golden in goldens] == [[0], [1], [2]]
    checked = edgevlm("verify", out, "--json")
    assert checked.json["goldens"] == {"agree": 3, "of": 3}
    assert edgevlm("inspect", out, "--axes").status == 0
    ended = edgevlm("run", out, "--image", picture, "--prompt", "what is it?")
    assert (ended.status, ended.code) == (1, "EV323") and "it answers no questions" in ended.err
    assert edgevlm("profile", out, "-n", "2", "--prompt", "what is it?").code == "EV220"
    for shown in ((), ("--image", picture)):
        told = edgevlm("profile", out, "-n", "2", "--warmup", "0", *shown, "--json")
        assert told.status == 0 and list(told.json["stages"]) == [
            "preprocess", "vision", "end_to_end",
        ]  # fmt: skip
        assert told.json["fps"] > 0 and told.json["ttft_ms"] is None
        assert told.json["requests"] == (1 if shown else 3)


def test_a_classifier_that_answers_otherwise_is_found(edgevlm, classifier, tmp_path, resign):
    out = tmp_path / "c.edgevlm"
    assert edgevlm("compile", classifier, "--target", "cpu", "-o", out).status == 0

    def edit(manifest: dict) -> None:
        manifest["goldens"][1]["token_ids"] = [2]

    resign(out, edit)
    ended = edgevlm("verify", out)
    assert (ended.status, ended.code) == (1, "EV331") and "1 of 3 goldens" in ended.err


def test_a_classifier_without_blocks_cannot_be_pruned(edgevlm, classifier, tmp_path):
    out = tmp_path / "c.edgevlm"
    ended = edgevlm("compile", classifier, "--target", "cpu", "-o", out, "--tokens", "3")
    assert (ended.status, ended.code) == (2, "EV209") and "has 0 blocks" in ended.err


def test_a_bundle_without_its_record_has_no_drift(edgevlm, micro_bundle, tmp_path):
    copy = shutil.copytree(micro_bundle, tmp_path / "b.edgevlm")
    (copy / "record.json").unlink()
    report = edgevlm("inspect", copy, "--json").json
    assert {part["drift"] for part in report["parts"]} == {None}
    assert edgevlm("verify", copy).code == "EV330"  # which is not to say that all is well
