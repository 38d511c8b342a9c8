"""Time by op: every node is counted once, and the sums are those of ONNX Runtime's profiler."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from edgevlm.compiler.reference import observe
from edgevlm.passes.quantize.quantize_kv import QuantizeKv
from edgevlm.runtimes.ort import op_profile
from edgevlm.runtimes.ort.op_profile import profile_part, zero_feeds
from edgevlm.runtimes.ort.runtime import OrtRuntime, open_part

RUNS = 20


@pytest.fixture(scope="module")
def rows(small):
    found = defaultdict(list)
    for row in OrtRuntime().profile_ops(small, runs=RUNS):
        found[row.role].append(row)
    return found


def test_every_part_is_there_and_its_shares_add_up(rows, small):
    assert list(rows) == list(small.manifest.contract.roles)
    for part in rows.values():
        assert sum(row.share for row in part) == pytest.approx(1)
        assert all(row.ms > 0 and row.nodes > 0 and row.how == "measured-host" for row in part)
        total = sum(row.ms for row in part)
        assert all(row.share == pytest.approx(row.ms / total) for row in part)
        assert [row.ms for row in part] == sorted((row.ms for row in part), reverse=True)
        assert len({row.op for row in part}) == len(part)


def test_layers_come_in_the_order_in_which_they_run_with_the_unit_that_ran_them(small):
    """A value must be made before it is used; the unit is the provider of each event."""
    layers = OrtRuntime().profile_layers(small, runs=2)
    assert list(dict.fromkeys(row.role for row in layers)) == list(small.manifest.contract.roles)
    vision = [row for row in layers if row.role == "vision"]
    attention = [row.node for row in vision if row.op == "Attention"]
    assert attention == sorted(attention, key=len) and len(attention) == 4
    assert vision[0].op == "Conv" and len({row.node for row in vision}) == len(vision)
    assert {row.unit for row in layers} == {"CPUExecutionProvider"}
    assert all(row.ms >= 0 and row.how == "measured-host" for row in layers)


def test_ops_and_layers_of_a_report_are_of_the_same_runs(small):
    report = OrtRuntime().profile_report(small)
    assert list(report) == ["ops", "layers"]
    for role in small.manifest.contract.roles:
        ops, layers = ([r for r in report[key] if r["role"] == role] for key in report)
        assert sum(r["nodes"] for r in ops) == len(layers)
        assert sum(r["ms"] for r in ops) == pytest.approx(sum(r["ms"] for r in layers))


def test_nodes_are_those_that_onnx_runtime_made(rows):
    """Fused, so not those of the file; but a layer has one attention, however it is called."""
    for role in ("vision", "prefill", "decode"):
        assert {row.op: row.nodes for row in rows[role]}["Attention"] == 4
    assert not any(row.op == "DequantizeLinear" for row in rows["prefill"] + rows["vision"])


@pytest.mark.parametrize("role", ["vision", "decode"])
def test_the_sums_are_those_of_the_profilers_own_events(small, monkeypatch, role):
    """Whatever else runs on this machine: no microsecond is lost, added or counted twice."""
    events: list[dict] = []
    real = json.loads
    monkeypatch.setattr(op_profile.json, "loads", lambda text: events.extend(real(text)) or events)
    artifact = next(a for a in small.manifest.artifacts if a.role == role)
    rows = profile_part(small.folder / artifact.file, role, artifact.settings, RUNS)
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    per_run = len({e["name"] for e in nodes})
    assert len(nodes) == per_run * (3 + RUNS) and sum(row.nodes for row in rows) == per_run
    counted = sorted(nodes, key=lambda e: e["ts"])[3 * per_run :]
    assert sum(row.ms for row in rows) * RUNS * 1000 == pytest.approx(
        sum(e["dur"] for e in counted)
    )
    runs = [e["dur"] for e in events if e["name"] == "model_run"]
    assert len(runs) == 3 + RUNS and sum(e["dur"] for e in counted) < sum(runs[3:])


def test_warm_up_runs_are_left_out(small, monkeypatch):
    """Events come in run order: with made-up times, exactly the first three runs are dropped."""

    class Session:
        def __init__(self, file) -> None:
            self.file = file

        def get_inputs(self) -> list:
            return []

        def run(self, names: object, feeds: object) -> None:
            pass

        def end_profiling(self) -> str:
            events = [{"cat": "Session", "name": "model_run", "dur": 99}]
            for run in range(5):
                for node in ("a", "b"):
                    events.append({
                        "cat": "Node", "name": f"{node}_kernel_time",
                        "dur": 1_000_000 if run < 3 else 1000, "args": {"op_name": "Add"},
                    })  # fmt: skip
                events.append({"cat": "Node", "name": "a_fence_before", "dur": 5, "args": {}})
            self.file.write_text(json.dumps(events))
            return str(self.file)

    def fake(path: Path, settings: dict, profile_to: str) -> Session:
        return Session(Path(profile_to + ".json"))

    monkeypatch.setattr(op_profile.runtime, "open_part", fake)
    (row,) = profile_part(Path("x.onnx"), "vision", {}, runs=2)
    assert (row.op, row.nodes, row.share) == ("Add", 2, 1.0)
    assert row.ms == pytest.approx(2.0)  # two nodes of 1 ms in each run
    a, b = op_profile.node_times(Path("x.onnx"), {}, runs=2)
    assert (a.node, b.node, a.unit) == ("a", "b", None)  # these events name no provider


def test_nothing_is_left_in_the_temporary_folder(small, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    artifact = small.manifest.artifacts[2]
    profile_part(small.folder / artifact.file, artifact.role, artifact.settings, 1)
    assert list(tmp_path.iterdir()) == []


def test_caches_of_int8_are_fed_as_int8(tiny_model, tiny_probes, tmp_path):
    step = QuantizeKv()
    step.calibration = observe(tiny_model, tiny_probes)
    artifacts = OrtRuntime().lower(step(tiny_model).model, tmp_path)
    (decode,) = [a for a in artifacts if a.role == "decode"]
    feeds = zero_feeds(open_part(tmp_path / decode.file, decode.settings))
    assert feeds["past_key_0"].dtype == np.int8 and feeds["inputs_embeds"].dtype == np.float32
    rows = {r.op: r.nodes for r in profile_part(tmp_path / decode.file, "decode", {}, 2)}
    assert rows["QuantizeLinear"] == rows["DequantizeLinear"] == 8


def test_feeds_are_zeros_and_masks_let_all_through(small):
    session = open_part(small.folder / "ort" / "decode.onnx", {"threads": 1})
    feeds = zero_feeds(session)
    assert set(feeds) == {i.name for i in session.get_inputs()}
    assert feeds["attention_mask"].all() and feeds["attention_mask"].dtype == np.bool_
    assert feeds["position_ids"].dtype == np.int64 and not feeds["past_key_0"].any()
