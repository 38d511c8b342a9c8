"""`--kv int8` from the command line to answers: a bundle of its own type of cache."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.compiler.exported_model import ExportedModel, save_model
from edgevlm.compiler.weights import load_graph

COMPILE = ("compile", "easyvqa-tiny", "--target", "cpu", "--kv", "int8", "-o")
QUESTION = "what color is the shape?"


@pytest.fixture(scope="module")
def made(edgevlm, tmp_path_factory):
    out = tmp_path_factory.mktemp("kv") / "b.edgevlm"
    return out, edgevlm(*COMPILE, out, "--calib", "scenes:8", "--json")


def scales(out, role):
    """By port; read from the file, as a stranger would."""
    found = {}
    for node in load_graph(out / "ort" / f"{role}.onnx").graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            code = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
            found[str(code.name)] = node.inputs[1].const_value.numpy()
    return found


def test_it_answers_as_the_source_in_a_quarter_of_the_bytes(made):
    _, ended = made
    assert ended.status == 0, ended.err
    answers, tokens = ended.json["answers"], ended.json["image_tokens"]
    assert answers["agree_with_source"] == answers["probes"] == 12
    float_bytes = 104 * 2 * 4 * 2 * 32 * 4
    assert (tokens["kv_dtype"], tokens["kv_bytes"]) == ("int8", float_bytes // 4)
    assert "KV 0.05 MB int8" in ended.err
    drift = {p["role"]: p["drift"] for p in ended.json["parts"]}
    for role in ("prefill", "decode"):  # compared as numbers, through the codes
        assert drift[role]["against"] == "source" and 25 < drift[role]["sqnr_db"] < 50
    assert drift["vision"]["sqnr_db"] > 80


def test_it_runs_and_verifies(made, edgevlm, picture):
    out, _ = made
    assert edgevlm("verify", out).status == 0
    ended = edgevlm("run", out, "--image", picture, "--prompt", QUESTION, "--json")
    assert ended.json["answer"] == "teal"
    assert ended.json["image_tokens"]["kv_dtype"] == "int8"
    assert edgevlm("profile", out, "-n", "2", "--ops").status == 0


def test_inspect_says_type_and_bytes(made, edgevlm, bundle):
    out, _ = made
    ended = edgevlm("inspect", out, "--axes", "--json")
    assert ended.json["contract"]["kv_dtype"] == "INT8"
    assert "KV 104 rows, 0.05 MB int8" in ended.err.replace("\n", " ")
    decode = next(p for p in ended.json["parts"] if p["role"] == "decode")
    assert decode["inputs"]["past_key_0"] == ["INT8", [1, 2, 104, 32]]
    assert decode["outputs"]["value_3"] == ["INT8", [1, 2, 1, 32]]
    assert decode["axes"]["past_key_0"] == ["1", "head", "kv", "head_dim"]
    plain = edgevlm("inspect", bundle, "--json")
    assert plain.json["contract"]["kv_dtype"] == "FLOAT" and "MB float32" in plain.err


def test_both_files_have_the_same_scales(made):
    out, _ = made
    prefill, decode = scales(out, "prefill"), scales(out, "decode")
    names = [f"{kind}_{i}" for i in range(4) for kind in ("key", "value")]
    assert sorted(prefill) == sorted(names)
    assert sorted(decode) == sorted([*names, *(f"past_{n}" for n in names)])
    for name in names:
        assert prefill[name].shape == (2,)
        for other in (decode[name], decode[f"past_{name}"]):
            np.testing.assert_array_equal(other, prefill[name])


def test_scales_are_fitted_to_what_calib_names_and_bytes_are_stable(made, edgevlm, tmp_path):
    out, _ = made
    again, probes = tmp_path / "again.edgevlm", tmp_path / "probes.edgevlm"
    assert edgevlm(*COMPILE, again, "--calib", "scenes:8").status == 0
    assert edgevlm(*COMPILE, probes).status == 0
    a, b, c = (scales(o, "prefill") for o in (out, again, probes))
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert not any(np.array_equal(a[n], c[n]) for n in a)
    digests = [json.loads((o / "manifest.json").read_text())["files"] for o in (out, again)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("quant", ["w8", "w8a8"])
def test_with_fewer_tokens_and_int8_weights(edgevlm, tmp_path, quant):
    out = tmp_path / "b.edgevlm"
    args = ("--target", "cpu", "--tokens", "50%,25%", "--prune-at", "connector-out,llm:2")
    args += ("--prune", "dart", "--quant", quant, "--kv", "int8", "--payoff", "quick", "--force")
    ended = edgevlm("compile", "easyvqa-tiny", *args, "-o", out, "--json")
    assert ended.status == 0, ended.err
    answers = ended.json["answers"]
    assert answers["agree_with_source"] >= answers["probes"] - 2
    cost = ended.json["payoff"]["kv_bytes"]  # both sides with int8 caches
    assert cost["before"] == 104 * 2 * 4 * 2 * 32
    assert cost["after"] == ended.json["image_tokens"]["kv_bytes"] < cost["before"]
    steps = [p["name"] for p in edgevlm("inspect", out, "--json").json["passes"] if p["changed"]]
    assert steps[-1] == "quantize-kv"
    assert edgevlm("verify", out).status == 0


def test_a_recipe_may_name_it(made, edgevlm, tmp_path):
    out, _ = made
    recipe = tmp_path / "r.toml"
    text = (out / "recipe.toml").read_text()
    assert text.count('name = "quantize-kv"') == 1
    recipe.write_text(text.replace('name = "quantize-kv"', 'name = "quantize-kv"\nheadroom = 2.0'))
    wide = tmp_path / "wide.edgevlm"
    args = ("--recipe", recipe, "--calib", "scenes:8", "-o", wide)
    assert edgevlm("compile", "easyvqa-tiny", "--target", "cpu", *args).status == 0
    a, b = scales(out, "prefill"), scales(wide, "prefill")
    assert all(np.allclose(2 * a[n], b[n]) for n in a)


def test_an_exported_model_keeps_its_int8_caches(made, edgevlm, tmp_path, tiny_model):
    """The type is part of the contract, so a folder carries it."""
    from edgevlm.compiler.reference import observe
    from edgevlm.models.answer import inputs_of
    from edgevlm.passes.quantize.quantize_kv import QuantizeKv

    step = QuantizeKv()
    probes = inputs_of(tiny_model)
    step.calibration = observe(tiny_model, probes)
    folder, out = tmp_path / "model", tmp_path / "b.edgevlm"
    folder.mkdir()
    save_model(step(tiny_model).model, folder)
    for more in ((), ("--kv", "int8")):
        ended = edgevlm("compile", folder, "--target", "cpu", "-o", out, *more, "--force", "--json")
        assert ended.status == 0, ended.err
        assert ended.json["image_tokens"]["kv_dtype"] == "int8"
        assert {p["drift"]["against"] for p in ended.json["parts"]} == {"source"}
        assert min(p["drift"]["sqnr_db"] for p in ended.json["parts"]) > 80


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--kv", "int4"), "EV202", "types: float, int8"),
        (("--kv", "int8", "--recipe", "r.toml"), "EV220", "--kv, "),
        (("--kv", "float", "--calib", "scenes"), "EV220", "or --kv int8"),
    ],
)
def test_what_is_refused(edgevlm, tmp_path, args, code, said):
    ended = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "-o", tmp_path / "b", *args)
    assert (ended.status, ended.code) == (2, code) and said in ended.err
    assert not (tmp_path / "b").exists()


def test_a_classifier_has_no_cache(edgevlm, graph, micro_model, tmp_path):
    part = graph(
        """(float[1,3,6,6] pixel_values) => (float[1,4] logits) {
        a = Reshape(pixel_values, flat) logits = MatMul(a, w) }""",
        flat=np.array([1, 108]), w=np.ones((108, 4), np.float32),
    )  # fmt: skip
    sizes = {"kind": "classifier", "vision_tokens": 1, "image_tokens": 1, "kept_image_tokens": 1}
    contract = micro_model.contract.model_copy(update={**sizes, "grid": (1, 1), "vocabulary": 4})
    model = ExportedModel(
        contract, {"vision": part}, micro_model.processor, b"", micro_model.source,
        micro_model.probes,
    )  # fmt: skip
    folder = tmp_path / "vit"
    folder.mkdir()
    save_model(model, folder)
    args = ("compile", folder, "--target", "cpu", "-o", tmp_path / "b", "--kv", "int8")
    ended = edgevlm(*args)
    assert (ended.status, ended.code) == (2, "EV220"), ended.err
    assert "a classifier model has no cache" in ended.err and not (tmp_path / "b").exists()


def test_a_manifest_that_lies_about_its_caches_is_refused(own_bundle, edgevlm):
    """Float files under a contract of int8: told when they are opened, not when they are fed."""
    from edgevlm.compiler.bundle import write_sums

    path = own_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["contract"]["kv_dtype"] = "INT8"
    path.write_text(json.dumps(manifest))
    (own_bundle / "SHA256SUMS").unlink()
    write_sums(own_bundle)
    ended = edgevlm("verify", own_bundle)
    assert (ended.status, ended.code) == (1, "EV304") and "key_0 is FLOAT" in ended.err
    manifest["contract"].pop("kv_dtype")  # as older versions wrote it
    path.write_text(json.dumps(manifest))
    (own_bundle / "SHA256SUMS").unlink()
    write_sums(own_bundle)
    assert edgevlm("verify", own_bundle).status == 0
