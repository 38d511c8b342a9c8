"""`--quant w8a8` and `--calib` from the command line to answers."""

from __future__ import annotations

import json

import pytest

COMPILE = (
    "compile",
    "easyvqa-tiny",
    "--target",
    "cpu",
    "--payoff",
    "none",
    "--quant",
    "w8a8",
    "-o",
)


@pytest.fixture(scope="module")
def made(edgevlm, tmp_path_factory):
    out = tmp_path_factory.mktemp("quant") / "b.edgevlm"
    return out, edgevlm(*COMPILE, out, "--calib", "scenes:8", "--json")


def scales(out):
    from edgevlm.compiler.weights import load_graph

    graph = load_graph(out / "ort" / "prefill.onnx").graph
    return [float(n.inputs[1].const_value.numpy()) for n in graph if n.op_type == "QuantizeLinear"]


def test_it_answers_as_the_source(made, edgevlm):
    out, ended = made
    assert ended.status == 0
    assert ended.json["answers"]["agree_with_source"] == ended.json["answers"]["probes"] == 12
    assert edgevlm("verify", out).status == 0
    told = json.loads((out / "record.json").read_text())["passes"]
    notes = next(p["notes"] for p in told if p["name"] == "quantize-activations")
    assert any("ranges of 8 runs" in note["why"] for note in notes)


def test_ranges_are_those_of_the_pictures_given(made, edgevlm, tmp_path):
    out, _ = made
    again, probes = tmp_path / "again.edgevlm", tmp_path / "probes.edgevlm"
    assert edgevlm(*COMPILE, again, "--calib", "scenes:8").status == 0
    assert edgevlm(*COMPILE, probes).status == 0
    assert scales(again) == scales(out) != scales(probes)
    digests = [json.loads((b / "manifest.json").read_text())["files"] for b in (out, again)]
    assert digests[0] == digests[1]


def test_with_fewer_tokens_on_the_harder_model(edgevlm, tmp_path):
    """Smoothing, int8 and a choice of tokens; timed against the same without the choice."""
    out = tmp_path / "b.edgevlm"
    args = ("--target", "cpu", "--tokens", "25%", "--quant", "w8a8", "--calib", "scenes:16")
    ended = edgevlm("compile", "scenes-tiny", *args, "-o", out, "--force", "--json")
    assert ended.status == 0, ended.err
    answers = ended.json["answers"]
    assert answers["agree_with_source"] >= answers["probes"] - 1
    assert ended.json["payoff"]["stages"]["prefill"]["before_ms"] > 0
    names = [p["name"] for p in edgevlm("inspect", out, "--json").json["passes"] if p["changed"]]
    assert names[-4:] == [
        "keep-tokens", "smooth-activations", "quantize-weights", "quantize-activations",
    ]  # fmt: skip


def test_tables_are_refused_before_any_pass_runs(edgevlm, tmp_path):
    call = ("compile", "easyvqa-tiny", "--target", "cpu", "--quant", "lut4", "-o", tmp_path / "b")
    ended = edgevlm(*call)
    assert (ended.status, ended.code) == (1, "EV303")
    assert "lookup tables" in ended.err and "--quant w4a16" in ended.err
    assert "fold-constants" not in ended.err and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--quant", "w8", "--calib", "scenes"), "EV220", "fits anything to inputs"),
        (("--quant", "w8a8", "--calib", "easy-scenes"), "EV132", "test split only"),
        (("--quant", "w8a8", "--calib", "nowhere"), "EV130", "no folder and no data set"),
        (("--quant", "w4a4"), "EV202", "schemes: none, w8, w4a16, w8a8"),
    ],
)
def test_what_is_refused(edgevlm, tmp_path, args, code, said):
    ended = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "-o", tmp_path / "b", *args)
    assert (ended.status, ended.code) == (2, code) and said in ended.err
    assert not (tmp_path / "b").exists()
