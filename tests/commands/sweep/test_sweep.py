"""`edgevlm sweep` as a user calls it: the grid, its figures, what is refused, what goes wrong."""

from __future__ import annotations

import csv
import json

import onnx
import pytest

from edgevlm.commands import sweep_cell
from edgevlm.commands.sweep import SweepOptions, sweep_model
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.errors import JobFault

GRID = ("--over", "prune=dart,stride", "--over", "tokens=6,3")


def by_name(report: dict) -> dict[str, dict]:
    return {cell["name"]: cell for cell in report["cells"]}


def test_the_plot_is_drawn_again_with_nothing_left_to_do(sweep, tmp_path):
    pytest.importorskip("matplotlib", reason="the plot needs: pip install 'edgevlm[report]'")
    sweep("--over", "tokens=6", "--no-baseline")
    assert not (tmp_path / "sweep" / "pareto.png").exists()
    ended = sweep("--over", "tokens=6", "--no-baseline", plot=True)
    assert ended.json["measured"] == 0 and ended.json["plots"] == ["pareto.png", "pareto.svg"]
    assert all((tmp_path / "sweep" / name).stat().st_size > 5000 for name in ended.json["plots"])


def test_a_grid_is_measured_written_and_told(sweep, tmp_path):
    ended = sweep(*GRID)
    report, cells = ended.json, by_name(ended.json)
    assert ended.status == 0 and report["ok"] and report["schema"] == 1
    assert (report["done"], report["refused"], report["failed"]) == (5, 0, 0)
    assert list(cells) == ["baseline", "prune=dart tokens=6", "prune=dart tokens=3",
                           "prune=stride tokens=6", "prune=stride tokens=3"]  # fmt: skip
    assert report["score"] == "agreement" and report["settings"]["dataset"] is None
    for cell in cells.values():
        timing, kept = cell["timing"], cell["size"]["kept"]
        assert kept == int(cell["options"].get("tokens", 9)) and cell["size"]["of"] == 9
        assert 0 < timing["low"] <= timing["ratio"] <= timing["high"] and timing["n"] == 3
        assert timing["how"] == "measured-host" and cell["agreement"]["n"] == 3
        if not cell["baseline"]:
            assert cell["x_ms"] == pytest.approx(timing["ratio"] * report["baseline_ms"])
    assert cells["baseline"]["x_ms"] == report["baseline_ms"]
    assert any(cell["on_front"] for cell in cells.values())
    for i, name in enumerate(cells, 1):
        assert any(line.startswith(f"[{i}/5] {name}") for line in ended.err.splitlines())
    assert "about" in ended.err and " left" in ended.err and "ratio" in ended.err
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert {key: report[key] for key in written} == written
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == list(cells)
    assert [float(row["ratio"]) for row in rows] == [c["timing"]["ratio"] for c in report["cells"]]
    assert not (tmp_path / "sweep" / "cells").exists()


def test_called_again_it_measures_nothing_and_says_so(sweep, tmp_path, monkeypatch):
    first = sweep(*GRID).json
    monkeypatch.setattr(sweep_cell, "compile_model", lambda *a, **k: pytest.fail("compiled again"))
    ended = sweep(*GRID)
    assert ended.status == 0 and ended.json["measured"] == 0
    assert ended.json["cells"] == first["cells"]
    assert "5 of 5 cells were done before" in ended.err and "nothing was left to do" in ended.err


def test_a_grid_may_grow(sweep):
    first = sweep("--over", "tokens=6").json
    grown = sweep("--over", "tokens=6,3").json
    assert grown["measured"] == 1 and [c["name"] for c in grown["cells"]][-1] == "tokens=3"
    assert by_name(grown)["tokens=6"]["timing"] == by_name(first)["tokens=6"]["timing"]


def test_what_cannot_be_had_is_a_cell_with_its_reason(sweep):
    ended = sweep("--over", "tokens=6,10,3")
    assert ended.status == 0 and ended.json["ok"] and ended.json["refused"] == 1
    cell = by_name(ended.json)["tokens=10"]
    assert cell["status"] == "refused" and cell["fault"]["code"] == "EV203"
    assert cell["timing"] is None and cell["x_ms"] is None and not cell["on_front"]
    assert "refused: tokens=10\n  EV203" in ended.err
    assert sweep("--over", "tokens=6,10,3").json["measured"] == 0


def test_a_crash_in_one_cell_does_not_stop_the_others(sweep, monkeypatch):
    real = sweep_cell.turn_about
    left = [2]  # the baseline and one cell

    def crash(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("the roof is on fire")
        return real(*args, **kwargs)

    monkeypatch.setattr(sweep_cell, "turn_about", crash)
    ended = sweep("--over", "tokens=6,3")
    cell = by_name(ended.json)["tokens=6"]
    assert ended.status == 1 and not ended.json["ok"]
    assert (ended.json["done"], ended.json["failed"]) == (2, 1)
    assert cell["status"] == "failed" and cell["fault"]["code"] == "EV500"
    assert "roof is on fire" in cell["fault"]["why"]
    assert cell["size"]["kept"] == 6 and cell["timing"] is None  # what it got to is kept
    monkeypatch.undo()
    again = sweep("--over", "tokens=6,3")
    assert again.status == 0 and again.json["measured"] == 1 and again.json["done"] == 3


def test_what_stops_the_baseline_stops_the_sweep(sweep, tmp_path):
    ended = sweep("--over", "max-prompt=5", "--over", "tokens=6")
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV115")
    assert not (tmp_path / "sweep").exists()


def test_a_full_disk_stops_the_sweep_and_keeps_what_was_written(sweep, monkeypatch, tmp_path):
    from edgevlm.commands import sweep_store

    sweep("--over", "tokens=6")
    before = (tmp_path / "sweep" / "sweep.json").read_bytes()
    real = sweep_store.atomic_file

    def full(target, data):
        if b"tokens=3" in data:
            raise JobFault("EV311", target.name, "the disk is full", "df -h")
        real(target, data)

    monkeypatch.setattr(sweep_store, "atomic_file", full)
    ended = sweep("--over", "tokens=6,3")
    assert (ended.status, ended.json["error"]["code"]) == (1, "EV311")
    left = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert left["cells"] == json.loads(before)["cells"]


def test_a_disk_that_is_full_indeed(mount, edgevlm, micro_folder):
    disk = mount("size=40k")
    ended = edgevlm("sweep", micro_folder, "--target", "cpu", "--over", "tokens=6,3", "-n", "1",
                    "-o", disk / "sweep")  # fmt: skip
    assert (ended.status, ended.code) == (1, "EV311") and "the disk is full" in ended.err
    assert list(disk.iterdir()) == []


def test_a_folder_that_may_not_be_written(mount, edgevlm, micro_folder):
    disk = mount("ro")
    ended = edgevlm("sweep", micro_folder, "--target", "cpu", "--over", "tokens=6", "-o",
                    disk / "sweep")  # fmt: skip
    assert (ended.status, ended.code) == (1, "EV311") and "cannot be written to" in ended.err


def test_without_a_baseline_there_is_no_ratio(sweep):
    report = sweep("--over", "tokens=6,3", "--no-baseline").json
    assert list(by_name(report)) == ["tokens=6", "tokens=3"] and report["baseline_ms"] is None
    for cell in report["cells"]:
        assert cell["timing"]["ratio"] is None and cell["x_ms"] == cell["timing"]["ttft_ms"]


def test_kept_bundles_are_those_that_compile_makes(sweep, edgevlm, micro_folder, tmp_path):
    report = sweep("--over", "tokens=6", "--keep-bundles").json
    cell = by_name(report)["tokens=6"]
    kept = tmp_path / "sweep" / cell["bundle"]
    out = tmp_path / "b.edgevlm"
    edgevlm("compile", micro_folder, "--target", "cpu", "--tokens", "6", "-o", out, "--force")
    assert open_bundle(kept).digest == open_bundle(out).digest == cell["digest"]
    assert edgevlm("verify", kept).status == 0
    decode = onnx.load(kept / "ort" / "decode.onnx", load_external_data=False).graph
    cache = 0
    for value in decode.input:
        if value.name.startswith("past_"):
            rows = 1
            for dim in value.type.tensor_type.shape.dim:
                rows *= dim.dim_value
            cache += 4 * rows
    assert cell["size"]["kv_bytes"] == cache > 0
    assert cell["size"]["bundle_bytes"] == open_bundle(kept).bytes


def test_the_accuracy_is_that_of_eval(sweep, edgevlm, tmp_path):
    asked = ("--dataset", "easy-scenes", "--limit", "40")
    report = sweep("--over", "tokens=8", *asked, "--keep-bundles", model="easyvqa-tiny").json
    cell = by_name(report)["tokens=8"]
    scored = edgevlm("eval", tmp_path / "sweep" / cell["bundle"], *asked, "--json").json
    assert report["score"] == "accuracy" and report["settings"]["limit"] == 40
    own = {key: cell["accuracy"][key] for key in scored["overall"]}
    assert own == scored["overall"] and cell["accuracy"]["n"] == 40
    assert {k: v["correct"] for k, v in cell["kinds"].items()} == {
        k: v["correct"] for k, v in scored["kinds"].items()
    }


def test_without_matplotlib_it_says_what_brings_the_plot(sweep, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = sweep("--over", "tokens=6", "--no-baseline", plot=True)
    assert ended.status == 0 and ended.json["plots"] == []
    assert "pip install 'edgevlm[report]'" in ended.err
    names = {path.name for path in (tmp_path / "sweep").iterdir()}
    assert names == {"sweep.json", "sweep.csv", ".lock"}


def test_quiet_and_from_python(edgevlm, micro_folder, tmp_path):
    args = ("--target", "cpu", "--over", "tokens=6", "--no-baseline", "-n", "1")
    assert edgevlm("sweep", micro_folder, *args, "-o", tmp_path / "a", "--quiet").err == ""
    report = sweep_model(
        str(micro_folder), SweepOptions("cpu", tmp_path / "b", ["tokens=6"], n=1, baseline=False)
    )
    assert report["done"] == 1
