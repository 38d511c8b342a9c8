"""A bundle from a stranger: processor, weights and graphs that are not what its manifest says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest

OPENING = (("verify",), ("run",), ("profile", "-n", "1"), ("eval",))  # all that open sessions


def put(value: object, *path: str | int):
    """An edit that puts `value` at a place of the manifest."""

    def edit(manifest: dict) -> None:
        place = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def drop(*path: str | int):
    def edit(manifest: dict) -> None:
        place = manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


PROCESSORS = {
    "unknown step": (put("x", "processor", "image", "exec"), "EV103"),
    "no height": (drop("processor", "image", "height"), "EV103"),
    "a key that is no name": (put(1, "processor", "image", "a b"), "EV103"),
    "another size": (put(32, "processor", "image", "width"), "EV106"),
    "no question": (put("<image>", "processor", "template"), "EV104"),
    "format string": (put("<image>{question.__class__}", "processor", "template"), "EV104"),
    "two images": (put("<image><image>{question}", "processor", "template"), "EV104"),
    "another token": (put("nowhere", "processor", "image_token"), "EV104"),
    "an end beyond the vocabulary": (put([10**9], "processor", "eos_ids"), "EV104"),
}


@pytest.mark.parametrize(("edit", "code"), PROCESSORS.values(), ids=PROCESSORS)
def test_a_processor_that_cannot_be_followed(refused, resign, own_bundle, edit, code):
    resign(own_bundle, edit)
    refused(code, OPENING)


def replace(bundle: Path, name: str, data: bytes) -> None:
    """Another file, listed as if it had been compiled so."""
    (bundle / name).write_bytes(data)
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(manifest))


def test_an_artifact_that_is_no_onnx(refused, resign, own_bundle):
    replace(own_bundle, "ort/decode.onnx", b"\x7fELF" * 100)
    resign(own_bundle)
    assert "decode.onnx cannot be read as ONNX" in refused("EV101", OPENING)


@pytest.mark.parametrize("location", ["../manifest.json", "/etc/passwd", "sub/../weights.bin"])
def test_weights_that_lead_out_of_the_bundle(refused, resign, own_bundle, location):
    path = own_bundle / "ort" / "embed.onnx"
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    replace(own_bundle, "ort/embed.onnx", model.SerializeToString())
    resign(own_bundle)
    assert "points outside" in refused("EV101", OPENING)


def test_weights_beyond_their_file(refused, resign, own_bundle):
    data = (own_bundle / "ort" / "weights.bin").read_bytes()
    replace(own_bundle, "ort/weights.bin", data[:100_000])
    resign(own_bundle)
    assert "of weights.bin, which has 100000" in refused("EV101", OPENING)


def test_parts_with_other_ports_than_the_contract_states(refused, resign, own_bundle):
    def swap(manifest: dict) -> None:
        first, second = manifest["artifacts"][3], manifest["artifacts"][4]
        first["file"], second["file"] = second["file"], first["file"]

    resign(own_bundle, swap)
    assert "not as the contract says" in refused("EV304", OPENING)


@pytest.mark.parametrize("key", ["layers", "vocabulary", "prompt_capacity", "kv_capacity", "width"])
def test_a_contract_that_the_parts_do_not_keep(refused, resign, own_bundle, key):
    """Otherwise a cache of its size would be made, or a token read past the table."""

    def edit(manifest: dict) -> None:
        manifest["contract"][key] += 1

    resign(own_bundle, edit)
    refused("EV304", OPENING)


def test_a_tokenizer_of_another_model(refused, resign, own_bundle):
    odd = json.loads((own_bundle / "processor" / "tokenizer.json").read_text())
    vocabulary = odd["model"]["vocab"]
    odd["model"]["vocab"] = {word: i + (i > 300) * 10**4 for word, i in vocabulary.items()}
    replace(own_bundle, "processor/tokenizer.json", json.dumps(odd).encode())
    resign(own_bundle)
    assert "the model knows 368 tokens" in refused("EV104", (("run",), ("verify",)))


def test_a_bundle_without_goldens_can_be_run_but_not_profiled_alone(
    edgevlm, resign, own_bundle, picture
):
    resign(own_bundle, put([], "goldens"))
    asked = ("--image", picture, "--prompt", "what color is the shape?")
    assert edgevlm("run", own_bundle, *asked).out == "teal\n"
    ended = edgevlm("profile", own_bundle, "-n", "1")
    assert (ended.status, ended.code) == (2, "EV411")
    assert edgevlm("profile", own_bundle, "-n", "1", *asked).status == 0
