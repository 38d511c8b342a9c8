"""`edgevlm profile --device adb:...` of a bundle on a phone without Python.

The real adb with a stand-in for its phone, which is this machine; a stand-in for executor_runner
that runs the .pte with the same kernels (micro/executor_runner.py).
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from micro.calls import call_here
from micro.executor_runner import Served

from edgevlm.commands import bench_there as command
from edgevlm.commands.host_numbers import HostNumbers, host_numbers
from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect import python
from edgevlm.devices.power.sampled import Sampled
from edgevlm.runtimes.executorch import parts as parts_module
from edgevlm.runtimes.executorch.android import runner as runners

DEVICE = ("--device", "adb:FAKE01", "-n", 6, "--warmup", 2)
ROLES = ["vision", "connector", "embed", "prefill", "decode"]


@pytest.fixture(autouse=True)
def no_python_there(monkeypatch):
    """And no runner, but for one that is brought."""
    monkeypatch.setattr(python, "PROBE", "no program of Python")
    monkeypatch.setattr(runners, "PLACES", ("/none/such",))
    monkeypatch.setattr(runners, "NAMES", ("no_such_runner",))
    monkeypatch.delenv(runners.RUNNER_VARIABLE, raising=False)


@pytest.fixture
def served(tmp_path):
    (tmp_path / "served").mkdir()
    with Served(tmp_path / "served") as server:
        yield server


@pytest.fixture
def profiled(bundle_of, phone, served, tmp_path):
    """profiled(*options, without=flags of the runner): how the call ended."""

    def call(*more, without=(), json=True):
        path = tmp_path / "my_runner"
        path.write_text(served.script(*without))
        words = ("profile", bundle_of("w8a8").folder, *DEVICE, "--runner", path, *more)
        ended = call_here(*words, *(["--json"] if json else []))
        assert list(phone.folder.iterdir()) == []
        return ended

    return call


def test_every_part_runs_there_and_gives_what_it_gives_here(profiled, served):
    ended = profiled()
    assert ended.status == 0, ended.err
    told = ended.json["runner"]
    assert {(row["role"], row["output"]) for row in told["outputs"]} == {
        ("vision", "image_features"), ("connector", "image_embeds"),
        ("embed", "text_embeds"), ("prefill", "logits"),
    }  # fmt: skip
    assert {row["db"] for row in told["outputs"]} == {200.0}  # the same kernels
    assert told["not_verified"] == {"decode": "the runner begins with empty caches"}
    assert [name for name, _ in served.calls] == ROLES
    assert [len(files) for _, files in served.calls] == [1, 1, 1, 3, 3]
    assert "runner: executor_runner; 4 outputs as on the host, 200.0 dB at worst" in ended.err
    assert "not verified: decode: the runner begins with empty caches" in ended.err


def test_the_json_is_that_of_a_profile(profiled):
    report = profiled("--ops").json
    assert list(report["stages"]) == ROLES
    for stage in report["stages"].values():
        assert (stage["n"], stage["how"]) == (6, "measured-device")
        assert 0 < stage["min_ms"] <= stage["p50_ms"] <= stage["p90_ms"] <= stage["p99_ms"]
    p50 = {name: stage["p50_ms"] for name, stage in report["stages"].items()}
    assert report["fps"] == pytest.approx(1e3 / (p50["vision"] + p50["connector"]))
    assert report["tokens_per_s"] == pytest.approx(1e3 / (p50["embed"] + p50["decode"]))
    assert report["ttft_ms"] == pytest.approx(sum(p50.values()) - p50["decode"])
    assert report["answers_per_s"] is None and report["timed"] is None
    assert {row["how"] for row in [*report["layers"], *report["ops"]]} == {"measured-device"}
    assert {row["role"] for row in report["ops"]} == set(ROLES)
    assert any("QS8" in row["op"] for row in report["ops"])
    nodes = {row["node"] for row in report["layers"] if row["role"] == "connector"}
    assert {"one", "act", "two"} <= nodes  # as the graph that was lowered names them
    assert all(ms > 0 for ms in report["runner"]["loads_ms"].values())
    assert report["device"] == {"reached": "adb", "cuts": 0, "clock": None}
    assert report["host"]["cores"] > 0 and report["host"]["kernel"].startswith("Linux")
    assert report["energy_j_per_answer"] is None and "battery" in report["energy_note"]


def test_a_report_shows_it(bundle_of, profiled, tmp_path):
    page = tmp_path / "page.html"
    (tmp_path / "phone.json").write_text(profiled("--ops").out)
    folder = bundle_of("w8a8").folder
    call = ("report", folder, "--profile", tmp_path / "phone.json", "-o", page)
    assert call_here(*call).status == 0
    text = page.read_text()
    assert "reached over adb" in text and "Parts were timed apart" in text
    assert "as expected" in text and "FullyConnected (QS8, QC8W)" in text


def test_a_runner_that_reads_and_writes_no_files(profiled, served):
    report = profiled(without=("inputs", "output_file")).json
    assert report["runner"]["outputs"] == []
    assert set(report["runner"]["not_verified"]) == set(ROLES)
    assert "no --output_file" in report["runner"]["not_verified"]["prefill"]
    assert any("every number was one" in note for note in report["notes"])
    assert {len(files) for _, files in served.calls} == {0}


def test_without_executorch_here(profiled, monkeypatch):
    why = "not installed here: executorch is not installed"
    monkeypatch.setattr(command, "host_numbers", lambda *_: HostNumbers(missing=why))
    report = profiled().json
    assert report["runner"]["not_verified"] == dict.fromkeys(ROLES, why)
    assert report["requests"] == 0 and list(report["stages"]) == ROLES


def test_other_numbers_than_here_are_an_error(profiled, served):
    served.spoil = lambda name, array: np.roll(array, 1) if name == "prefill" else array
    ended = profiled(json=False)
    assert (ended.status, ended.code) == (1, "EV364")
    assert "part prefill gives other numbers on adb:FAKE01" in ended.err


def test_outputs_of_another_size_are_held_against_nothing(profiled, served):
    served.spoil = lambda name, array: array[..., :1] if name == "vision" else array
    report = profiled().json
    assert "did not come back whole" in report["runner"]["not_verified"]["vision"]


def test_a_method_that_fails_there_is_told(profiled, served):
    def fail(name, array):
        raise RuntimeError("no kernel for it")

    served.spoil = fail
    ended = profiled(json=False)
    assert (ended.status, ended.code) == (1, "EV437") and "no kernel for it" in ended.err


def test_keep_leaves_the_copy_for_the_next_call(bundle_of, phone, served, tmp_path):
    path = tmp_path / "my_runner"
    path.write_text(served.script())
    words = ("profile", bundle_of("w8a8").folder, *DEVICE, "--runner", path)
    assert call_here(*words, "--keep").status == 0
    left = {each.name for each in phone.folder.rglob("*")}
    assert "model.pte" in left and not {name for name in left if name.startswith("run-")}
    assert call_here(*words).status == 0 and list(phone.folder.iterdir()) == []


def test_no_runner_anywhere(bundle_of, phone):
    ended = call_here("profile", bundle_of("w8a8").folder, *DEVICE)
    assert (ended.status, ended.code) == (1, "EV433")
    assert "adb:FAKE01 has no runner of ExecuTorch" in ended.err
    assert "--target executor_runner" in ended.err and list(phone.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--duration", "5s"), "EV220", "by counts and not by seconds"),
        (("--power", "wind"), "EV402", "unknown power meter"),
        (("--runner", "no/such/file"), "EV433", "there is no such file here"),
    ],
)
def test_what_it_cannot_do_is_told(profiled, more, code, said):
    ended = profiled(*more, json=False)
    assert ended.code == code and said in ended.err


@pytest.mark.parametrize("device", ["local", "jetson"])
def test_a_runner_where_none_is_wanted_is_refused(bundle_of, device):
    call = ("profile", bundle_of("w8a8").folder, "--device", device, "--runner", "executor_runner")
    ended = call_here(*call)
    assert (ended.status, ended.code) == (2, "EV220") and "--runner" in ended.err


def test_a_meter_sees_watts_and_no_joules_of_an_answer(profiled, monkeypatch):
    """A stand-in for a sensor of the phone: the watts are synthetic."""

    class Steady:
        name, total, note = "battery", frozenset(), "a stand-in"
        available = close = staticmethod(lambda: None)
        period_s = staticmethod(lambda: 0.005)
        read = staticmethod(lambda: {"battery": 3.0})

    @contextlib.contextmanager
    def meter(*_):
        yield Sampled(Steady(), how="measured-device"), None

    monkeypatch.setattr(command, "meter_there", meter)
    monkeypatch.setattr(command, "IDLE_S", 0.1)
    report = profiled().json
    power = report["power"]
    assert power["watts"] == pytest.approx(3.0) and power["how"] == "measured-device"
    assert power["joules_per_answer"] is None and report["energy_j_per_answer"] is None
    assert "3.00 W in" in report["energy_note"] and "cannot be told" in report["energy_note"]


def test_host_numbers_are_those_of_the_parts(bundle_of, lowered):
    found = host_numbers(bundle_of("w8a8"), None, None)
    assert set(found.feeds) == set(ROLES) and found.missing is None
    parts = lowered("w8a8").parts
    for role, outputs in found.outputs.items():
        again = parts.call(role, found.feeds[role])
        for name, array in outputs.items():
            np.testing.assert_array_equal(again[name], array)
    assert "decode" not in found.outputs


def test_a_package_that_is_missing_here_is_no_error(bundle_of, monkeypatch):
    def absent():
        raise JobFault("EV302", "what", "executorch is not installed", "pip install")

    monkeypatch.setattr(parts_module, "installed", absent)
    found = host_numbers(bundle_of("w8a8"), None, None)
    assert found.missing == "not installed here: executorch is not installed" and not found.feeds
