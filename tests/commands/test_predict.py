"""`profile --device NAME` of a device that is not at hand: figures, notes, refusals, the check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevlm.commands import predict_host
from edgevlm.commands.predict import graphs_of, predict_bundle
from edgevlm.commands.predicted import figures, products, stages_of, time_layers
from edgevlm.compiler.bundle import open_bundle
from edgevlm.compiler.cost import count
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices import memory_limits
from edgevlm.devices.roofline import Rates
from edgevlm.runtimes.ort.runtime import OrtRuntime


@pytest.fixture(scope="module")
def jetson(bundle):
    return predict_bundle(open_bundle(bundle), "jetson", ops=True)


def test_every_figure_is_labelled_and_follows_from_the_layers(jetson):
    assert jetson["how"] == "predicted" and jetson["confidence"] == "B"
    by_role = {}
    for layer in jetson["layers"]:
        assert layer["how"] == "predicted"
        by_role[layer["role"]] = by_role.get(layer["role"], 0) + layer["ms"]
    stages = jetson["stages"]
    assert {stage["how"] for stage in stages.values()} == {"predicted"}
    assert list(stages) == ["vision", "connector", "prefill", "decode"]
    assert stages["prefill"]["ms"] == pytest.approx(by_role["embed"] + by_role["prefill"])
    assert stages["decode"]["ms"] == pytest.approx(by_role["embed"] + by_role["decode"])
    image = stages["vision"]["ms"] + stages["connector"]["ms"]
    assert jetson["fps"] == pytest.approx(1e3 / image)
    assert jetson["ttft_ms"] == pytest.approx(image + stages["prefill"]["ms"])
    assert jetson["tokens_per_s"] == pytest.approx(1e3 / stages["decode"]["ms"])


def test_the_work_is_that_which_compile_counts(bundle, jetson):
    parts = graphs_of(open_bundle(bundle))
    for name, roles in (("vision", ["vision"]), ("decode", ["embed", "decode"])):
        assert jetson["stages"][name]["macs"] == sum(count(parts[r]).macs for r in roles)
    assert sum(products(parts).values()) == sum(count(part).macs for part in parts.values())


def test_a_layer_takes_what_the_formula_says(jetson):
    for layer in jetson["layers"]:
        compute, memory = 2 * layer["macs"] / 17e12, layer["bytes"] / 102e9
        assert layer["ms"] == pytest.approx(1e3 * max(compute, memory))
        assert layer["bound"] == ("compute" if compute >= memory else "memory")


def test_the_error_on_this_machine_stands_beside_it(jetson):
    here = jetson["this_machine"]
    assert set(here["stages"]) == set(jetson["stages"])
    for stage in here["stages"].values():
        assert stage["how"] == "measured-host" and stage["n"] >= 15
        assert stage["ratio"] == pytest.approx(stage["measured_ms"] / stage["predicted_ms"])
        assert 0.02 < stage["ratio"] < 200, "seconds by seconds; a busy machine is slower"
    assert {rate["what"] for rate in here["rates"]} == {
        *("fp32 rate", "int8 rate", "bandwidth", "launch latency"),
    }
    assert all(rate["value"] > 0 and rate["confidence"] is None for rate in here["rates"])


def test_a_bundle_that_does_not_run_here_says_why(bundle, monkeypatch):
    def lacking(name):
        raise JobFault("EV302", f"runtime {name} lacks its package", "it runs the artifacts", "-")

    monkeypatch.setattr(predict_host, "find_runtime", lacking)
    report = predict_bundle(open_bundle(bundle), "jetson")
    assert report["this_machine"] is None and report["stages"]["vision"]["ms"] > 0
    assert "lacks its package: it runs the artifacts" in report["this_machine_note"]
    assert "layers" not in report


def test_a_bundle_too_large_for_this_machine_is_not_run_on_it(bundle, monkeypatch):
    small = replace(memory_limits.describe_host(), ram_gib=0.001)
    monkeypatch.setattr(memory_limits, "describe_host", lambda: small)
    monkeypatch.setattr(OrtRuntime, "open", lambda *_: pytest.fail("it was opened"))
    report = predict_bundle(open_bundle(bundle), "jetson")
    assert report["this_machine"] is None and report["memory"]["verdict"] == "fits"
    assert report["this_machine_note"].startswith("it does not fit this machine: it takes at least")


def test_where_nothing_is_published_nothing_is_predicted(bundle):
    report = predict_bundle(open_bundle(bundle), "pixel-9")
    assert {stage["ms"] for stage in report["stages"].values()} == {None}
    assert report["fps"] is report["ttft_ms"] is report["tokens_per_s"] is None
    assert report["used"] == [] and report["confidence"] is None and report["at_least"]
    assert all(stage["macs"] >= 0 and stage["bytes"] > 0 for stage in report["stages"].values())
    assert report["memory"]["verdict"] == "fits"


def test_what_stands_in_is_told(bundle):
    assert any(
        "ViT-B/16" in note for note in predict_bundle(open_bundle(bundle), "android")["notes"]
    )
    notes = predict_bundle(open_bundle(bundle), "ethos-u85")["notes"]
    assert any("computes no floats" in note for note in notes)
    assert any("no bandwidth is published" in note for note in notes)
    assert any("every microsecond of launch latency would add" in note for note in notes)
    assert any("compiled for host-cpu" in note for note in notes)
    assert predict_bundle(open_bundle(bundle), "raspberry-pi-5")["confidence"] == "C"


def test_a_classifier_has_a_vision_stage_alone(shade_bundle):
    report = predict_bundle(open_bundle(shade_bundle), "kv260")
    assert list(report["stages"]) == ["vision"] and report["fps"] > 0
    assert report["ttft_ms"] is None and report["tokens_per_s"] is None
    assert report["memory"]["kv_bytes"] == 0


def test_a_faster_memory_takes_less_time_and_a_launch_is_added_to_each_kernel(micro_model):
    parts = micro_model.parts
    slow, fast = (
        stages_of(
            time_layers(parts, lambda _, b=b: Rates({"fp32": 1e12}, b, 0.0, width=4), folds=False)
        )
        for b in (1e9, 1e10)
    )
    assert all(fast[name]["ms"] < slow[name]["ms"] for name in slow)
    launched = stages_of(
        time_layers(parts, lambda _: Rates({"fp32": 1e12}, 1e9, 1e-3, width=4), folds=False)
    )
    for name, stage in launched.items():
        assert stage["bound"] == "launch"
        assert stage["ms"] == pytest.approx(slow[name]["ms"] + stage["kernels"])


def test_a_stage_of_which_nothing_is_known_makes_its_figures_null():
    stages = {"vision": {"ms": 2.0}, "connector": {"ms": None}, "decode": {"ms": 4.0}}
    assert figures(stages) == {"fps": None, "ttft_ms": None, "tokens_per_s": 250.0}
    assert figures({"vision": {"ms": 2.0}})["fps"] == 500


@pytest.mark.parametrize("name", ["cpu-2", "jetsn", ""])
def test_an_unknown_device_is_refused(edgevlm, bundle, name):
    ended = edgevlm("profile", bundle, "--device", name)
    assert ended.status == 2 and ended.code == "EV301"


@pytest.mark.parametrize("name", ["host-cpu", "host-openvino"])
def test_this_machine_is_measured_and_not_predicted(bundle, name):
    with pytest.raises(UsageFault, match="EV403"):
        predict_bundle(open_bundle(bundle), name)


@pytest.mark.parametrize(
    "option", [("--image", "p.png"), ("--prompt", "is it red?"), ("--power", "rapl")]
)
def test_what_belongs_to_a_measurement_is_refused(edgevlm, bundle, option):
    ended = edgevlm("profile", bundle, "--device", "jetson", *option)
    assert ended.status == 2 and ended.code == "EV220" and option[0] in ended.err


def test_an_address_is_not_taken_for_a_device_file(edgevlm, bundle):
    assert edgevlm("profile", bundle, "--device", "ssh://no.such.board").code == "EV431"


def test_people_read_predictions_and_measurements_in_columns_of_their_own(edgevlm, bundle):
    ended = edgevlm("profile", bundle, "--device", "raspberry-pi-5", "--ops")
    text = " ".join(ended.err.split())
    assert ended.status == 0 and not ended.out
    for said in (
        *("predicted ms", "this machine: predicted ms", "measured ms", "measured / predicted"),
        *("confidence C (not verified)", "memory: fits with", "those predicted slowest"),
        *("first token after at least", "from: fp32 rate of 4 Cortex-A76", "note: launch latency"),
    ):
        assert said in text, said
    silent = edgevlm("profile", bundle, "--device", "pixel-9").err
    assert "nothing: neither a rate nor a bandwidth of it is published" in silent
