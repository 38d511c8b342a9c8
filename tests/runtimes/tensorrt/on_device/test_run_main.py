"""`run_on_device.py`: from a bundle to answers, whole: built, kept, run, compared and timed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from micro.jetson import change_plan, draft_bundle

from edgevlm.compiler.exported_model import load_model
from edgevlm.models.answer import inputs_of
from edgevlm.models.zoo import bundled_folder
from edgevlm.runtimes.tensorrt.on_device import own_picture, run_main


def test_a_bundle_answers_as_the_reference(bundle, main, tensorrt, levers):
    before = levers.fake_used()
    ran = main("run", "--bundle", bundle, "--runs", 2, "--json")
    assert ran.status == 0, ran.err
    assert [a["ok"] for a in ran.out["answers"]] == [True] * 3
    assert all(a["token_ids"] == a["wanted"] and a["wanted"] for a in ran.out["answers"])
    roles = {row["role"] for row in ran.out["parts"]}
    assert roles == {"vision", "connector", "embed", "prefill", "decode"}
    assert all(row["ok"] for row in ran.out["parts"])
    stages = ran.out["times"]["stages"]
    assert stages["vision"]["n"] == stages["ttft"]["n"] == 6  # the first answers warm up
    assert stages["decode"]["n"] > 6 and ran.out["times"]["tokens_per_s"] > 0
    assert ran.out["notes"] == [] and levers.fake_used() == before


def test_the_bundled_model_answers_as_the_reference(
    tiny_model, tiny_probes, tmp_path, main, tensorrt
):
    bundle = draft_bundle(tmp_path / "tiny", tiny_model, tiny_probes, count=2)
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 0 and [a["ok"] for a in ran.out["answers"]] == [True, True]


def test_text_is_for_people(bundle, main, tensorrt):
    ran = main("run", "--bundle", bundle, "--runs", 1, "--layers", "--goldens", 1)
    assert ran.status == 0
    assert "1 of 1 goldens answered alike" in ran.out and "ttft" in ran.out
    assert "vision     image_features" in ran.out and "all of it" in ran.out


def test_what_is_missing_is_built_or_under_no_build_an_error(bundle, main, tensorrt):
    ran = main("run", "--bundle", bundle, "--no-build", "--json")
    assert ran.status == 1 and ran.out["error"]["code"] == "EV351"
    assert "vision: there is none yet" in ran.err and "build_on_device.py" in ran.err
    assert main("build", "--bundle", bundle, "--parts", "vision").status == 0
    ran = main("run", "--bundle", bundle, "--no-build", "--json")
    assert "engines for 4 of 5 parts" in ran.err
    assert main("run", "--bundle", bundle, "--runs", 1).status == 0
    assert main("run", "--bundle", bundle, "--runs", 1, "--no-build").status == 0
    tensorrt.__version__ = "10.7.0"
    ran = main("run", "--bundle", bundle, "--no-build")
    assert ran.status == 1 and "this is tensorrt 10.7.0" in ran.err


def test_an_answer_that_differs_is_told(bundle, main, tensorrt):
    change_plan(bundle, lambda plan: plan["goldens"][1]["token_ids"].append(3))
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 1 and ran.out["error"]["code"] == "EV353"
    assert [a["ok"] for a in ran.out["answers"]] == [True, False, True]
    assert "1 of 3 goldens have other token ids" in ran.err


def test_a_part_that_strays_is_told_by_output(bundle, main, tensorrt):
    path = bundle / "tensorrt" / "goldens.npz"
    tensors = dict(np.load(path))
    tensors["part/prefill/out/key_0"] = tensors["part/prefill/out/key_0"] * 1.01
    np.savez(path, **tensors)
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json", "--no-build")
    assert ran.status == 1  # no engines yet; the sums say that the tensors were changed
    (bundle / "SHA256SUMS").unlink()
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 1 and "prefill/key_0" in ran.err and "EV353" in ran.err
    [row] = [row for row in ran.out["parts"] if not row["ok"]]
    assert row["db"] == pytest.approx(40, abs=0.1) and row["floor_db"] == 60


def test_decode_runs_without_a_graph_where_there_can_be_none(bundle, main, tensorrt, levers):
    levers.fake_refuse_capture(1)
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json")
    assert ran.status == 0
    assert ran.out["notes"][0].startswith("decode runs without a CUDA graph: cudaStreamBegin")
    ran = main("run", "--bundle", bundle, "--runs", 1, "--json", "--no-graph")
    assert ran.status == 0 and ran.out["notes"] == []


def test_only_what_sees_is_compared_and_timed_but_answers_nothing(
    micro_model, micro_probes, tmp_path, main, tensorrt
):
    roles = ("vision", "connector")
    bundle = draft_bundle(tmp_path / "b", micro_model, micro_probes, roles=roles)
    ran = main("run", "--bundle", bundle, "--json", "--runs", 2)
    assert ran.status == 0 and ran.out["answers"] == []
    assert {row["role"] for row in ran.out["parts"]} == set(roles)
    assert set(ran.out["times"]["stages"]) == {*roles, "end_to_end"}
    assert ran.out["times"]["stages"]["vision"]["n"] == 6
    alone = draft_bundle(tmp_path / "c", micro_model, micro_probes, roles=roles[1:])
    ran = main("run", "--bundle", alone, "--json")
    assert ran.status == 0 and ran.out["times"]["stages"] == {} and len(ran.out["parts"]) == 1


def test_parts_only(bundle, main, tensorrt):
    ran = main("run", "--bundle", bundle, "--parts-only", "--json")
    assert ran.status == 0 and ran.out["answers"] == [] and len(ran.out["parts"]) > 5


def test_a_classifier_says_its_classes(tmp_path, main, tensorrt):
    model = load_model(bundled_folder("fashion-vit"))
    bundle = draft_bundle(tmp_path / "fashion", model, inputs_of(model), count=2)
    ran = main("run", "--bundle", bundle, "--runs", 2, "--json")
    assert ran.status == 0, ran.err
    assert [a["ok"] for a in ran.out["answers"]] == [True, True]
    assert all(len(a["token_ids"]) == 1 for a in ran.out["answers"])
    assert set(ran.out["times"]["stages"]) == {"vision", "end_to_end"}
    change_plan(bundle, lambda plan: plan["goldens"][0].update(token_ids=[10**6]))
    assert main("run", "--bundle", bundle, "--runs", 1).status == 1


def test_another_gpu_is_refused(bundle, main, tensorrt, levers):
    levers.fake_set_compute(110)
    ran = main("run", "--bundle", bundle)
    assert ran.status == 1 and "EV356" in ran.err
    assert main("run", "--bundle", bundle, "--any-device", "--runs", 1).status == 0


def test_a_layer_listing_without_graphs(bundle, main, tensorrt):
    ran = main("run", "--bundle", bundle, "--runs", 1, "--layers", "--json")
    assert set(ran.out["layers"]) == {"vision", "connector", "embed", "prefill", "decode"}
    assert all(ms > 0 for layers in ran.out["layers"].values() for ms in layers.values())
    assert set(ran.out["gpu_ms"]) == set(ran.out["layers"]) and min(ran.out["gpu_ms"].values()) > 0


def test_ctrl_c_closes_what_is_open(bundle, main, tensorrt, levers, monkeypatch):
    before = levers.fake_used()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgevlm.runtimes.tensorrt.on_device.run_main.ask", interrupted)
    ran = main("run", "--bundle", bundle)
    assert ran.status == 130 and "interrupted" in ran.err and levers.fake_used() == before


def test_an_older_tensorrt_is_noted(bundle, main, tensorrt):
    change_plan(bundle, lambda plan: plan.update(tensorrt="10.7"))
    ran = main("run", "--bundle", bundle, "--runs", 1)
    assert ran.status == 0
    assert "note: the bundle was written for TensorRT 10.7, this is 10.3.0" in ran.out
    tensorrt.__version__ = "10.13.3"  # compared as numbers
    assert "note" not in main("run", "--bundle", bundle, "--runs", 1).out


@pytest.mark.parametrize("logit", [float("nan"), float("inf"), 1.5])
def test_a_logit_that_json_has_not_is_null(logit):
    told = own_picture._class(1, np.array([0.0, logit], np.float32), ["ape", "bee"])
    assert json.loads(json.dumps(told, allow_nan=False))["class"] == "bee"
    [line] = run_main._own_lines({"classes": [told], "seconds": {}})
    assert line == ("class bee  1.500" if logit == 1.5 else "class bee  not finite")
