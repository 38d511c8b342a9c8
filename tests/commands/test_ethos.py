"""The whole way to an Ethos-U, with the real Vela: a classifier of two products."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from micro.once import made_once, need_tool

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.workshop.arrays import write_arrays
from edgevlm.runtimes import find_runtime


def classifier(folder):
    from micro.bare import bare_model

    rng = np.random.default_rng(0)
    model = bare_model(
        """(float[1,3,8,8] picture) => (float[1,10] logits) {
        f = Flatten(picture) h = Gemm(f, w1, b1) r = Relu(h) logits = Gemm(r, w2, b2) }""",
        w1=rng.normal(size=(192, 16), scale=0.1).astype(np.float32),
        b1=rng.normal(size=16).astype(np.float32),
        w2=rng.normal(size=(16, 10)).astype(np.float32),
        b2=rng.normal(size=10).astype(np.float32),
    )
    path = folder / "c.onnx"
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".toml").write_text(
        "[image]\nheight = 8\nwidth = 8\nresample = 'bilinear'\n"
        "mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n"
    )
    return str(path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Compiled once for all processes."""
    pytest.importorskip("torch", reason="programs need: pip install 'edgevlm[torch]'")
    need_tool("ethos")
    return made_once(tmp_path_factory, "ethos-shades", _compile) / "shades.edgevlm"


def _compile(folder):
    report = compile_model(
        classifier(folder), options_of("ethos-u55-128", folder / "shades.edgevlm")
    )
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture
def report(bundle):
    return json.loads((bundle.parent / "report.json").read_text())


def test_it_says_what_was_estimated_and_what_was_not_timed(bundle, report):
    told = report["preflight"]
    assert told["done"].startswith("estimated-vela: ethos-u-vela 5.1.0, Ethos_U55_128 at ")
    assert "nothing ran on the NPU" in told["note"] and told["odd"] == []
    (row,) = told["table"]["rows"]
    assert row[0] == "vision" and told["parts"][0]["how"] == "estimated-vela"
    assert told["parts"][0]["cycles"] > 0 and report["payoff"] is None
    assert any("integers throughout" in note for note in report["notes"])
    assert report["quant"]["scheme"] == "int8 of ethos"


def test_the_bundle_holds_program_graph_tables_and_sample(bundle):
    names = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    ends = ("pte", "0.tosa", "0.summary.csv", "0.layers.csv")
    assert {f"ethos/vision.{end}" for end in ends} <= names
    assert "app/ethos/piece.h" in names
    target = open_bundle(bundle).manifest.target
    assert target.runtime == "ethos" and target.sdk == {"accelerator": "ethos-u55-128"}
    assert target.toolchain["ethos-u-vela"] == "5.1.0"


def test_it_runs_here_as_the_npu_would(bundle, report):
    """By the reference model, within rounding of the graph; and what runs is the file."""
    opened = open_bundle(bundle)
    parts = find_runtime("ethos").open(opened)
    x = np.random.default_rng(0).random((1, 3, 8, 8)).astype(np.float32)
    (logits,) = parts.call("vision", {"pixel_values": x}).values()
    assert logits.shape == (1, 10) and len(np.unique(logits)) > 3
    drift = next(p["drift"] for p in report["parts"] if p["role"] == "vision")
    assert drift["sqnr_db"] > 20


def test_every_verb_knows_it(edgevlm, bundle):
    assert edgevlm("verify", bundle).status == 0
    assert edgevlm("inspect", bundle).status == 0
    ended = edgevlm("profile", bundle)
    assert (ended.status, ended.code) == (2, "EV434") and "--device ethos-u55-128" in ended.err
    ended = edgevlm("profile", bundle, "--device", "ethos-u55-128", "--ops", "--json")
    told = ended.json["estimated"]
    assert ended.status == 0 and told["label"].startswith("estimated-vela")
    assert {row["how"] for row in told["layers"]} == {"estimated-vela"}
    assert sum(r["ms"] for r in told["layers"]) == pytest.approx(told["parts"][0]["ms"])
    stage = ended.json["stages"]["vision"]
    assert stage["how"] == "estimated-vela" and stage["ms"] == told["parts"][0]["ms"]
    assert ended.json["fps"] == pytest.approx(1e3 / stage["ms"]) and ended.json["at_least"]
    shown = edgevlm("profile", bundle, "--device", "ethos-u55-128", "--ops").err
    assert "estimated-vela" in shown and "steps of its schedule" in shown
    other = edgevlm("profile", bundle, "--device", "ethos-u85-256", "--json").json
    assert other["estimated"] is None  # it was not compiled for that


@pytest.mark.parametrize("end", ["pte", "0.tosa", "0.summary.csv"])
def test_a_file_that_is_gone_is_told(edgevlm, bundle, tmp_path, end):
    own = shutil.copytree(bundle, tmp_path / "own.edgevlm")
    (own / f"ethos/vision.{end}").unlink()
    ended = edgevlm("verify", own)
    assert ended.status == 1 and f"vision.{end}" in ended.err


def test_numbers_that_are_rounded_already_are_refused(edgevlm, micro_folder, tmp_path):
    ended = edgevlm("compile", micro_folder, "--target", "ethos-u85-256", "--quant", "w8a8",
                    "-o", tmp_path / "b.edgevlm")  # fmt: skip
    assert (ended.status, ended.code) == (1, "EV303") and "leave --quant" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_integers_would_ruin_is_the_hosts(bundle, edgevlm, tmp_path, monkeypatch):
    """In float, by portable kernels, and everything says so; nothing is left for Vela here.

    What the NPU's graph computes is made up (that takes half a minute), the host's program is real.
    """
    from edgevlm.runtimes.executorch.ethos import make

    lowering = make.run_lowering

    def ruined(asked, target, work):
        rows = [each for each in asked if each["runs"] == "device"]
        if not rows:
            return lowering(asked, target, work)
        codes = np.random.default_rng(0).normal(size=(make.CHECKS, 1, 10)).astype(np.float32)
        made = {f"{side}.{i}.0": x for side in ("tosa", "qdq") for i, x in enumerate(codes)}
        write_arrays(work / "ruined.npz", made)
        told = {"outside": {}, "signature": {}, "delegates": [{}], "checks": "ruined.npz"}
        return {row["name"]: told for row in rows}

    monkeypatch.setattr(make, "run_lowering", ruined)
    out = tmp_path / "b.edgevlm"  # `bundle`: for its skip
    report = compile_model(classifier(tmp_path), options_of("ethos-u55-128", out))
    (part,) = [p for p in report["parts"] if p["role"] == "vision"]
    assert part["drift"]["sqnr_db"] > 100
    told = report["preflight"]
    assert ": 0 pieces" in told["done"] and told["parts"] == [] and told["table"]["rows"] == []
    assert "part vision runs on the host, in float" in told["odd"][0]
    assert not list(out.glob("ethos/*.tosa"))
    assert edgevlm("verify", out).status == 0
    ended = edgevlm("profile", out, "--device", "ethos-u55-128", "--ops", "--json")
    assert ended.status == 0 and ended.json["estimated"]["layers"] == []
