"""`edgevlm compile --target jetson`: what the bundle says, and what its two scripts do with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from micro.shades import shade_classifier

from edgevlm.compiler.bundle import check_bundle, open_bundle
from edgevlm.runtimes.tensorrt import preflight as module
from edgevlm.runtimes.tensorrt.preflight import refuse_failed


def test_nothing_is_passed_off_for_an_engine(jetson):
    manifest = open_bundle(jetson).manifest
    assert manifest.engine == "not built" and check_bundle(jetson) == []
    assert manifest.target.sdk == {"jetpack": "6.2", "sm": "87", "tensorrt": "10.3"}
    assert manifest.verified["artifacts"].endswith("run by ONNX Runtime on the host")
    assert manifest.not_verified["engine"] == "what tensorrt makes of it on jetson-orin-nano-super"
    assert manifest.not_verified["preflight"] == "left out: --preflight none"
    assert not [name for name in manifest.files if name.endswith((".engine", ".plan"))]


def test_the_same_bytes_each_time(compiled, jetson, micro_folder, tmp_path, edgevlm):
    out = tmp_path / "again.edgevlm"
    call = ("compile", micro_folder, "--target", "jetson", "--preflight", "none", "-o", out)
    assert edgevlm(*call).status == 0
    assert open_bundle(out).digest == open_bundle(jetson).digest


def test_what_the_plan_says_is_what_is_there(jetson):
    plan = json.loads((jetson / "tensorrt/plan.json").read_text())
    contract = open_bundle(jetson).manifest.contract
    assert plan["sm"] == 87 and plan["tensorrt"] == "10.3" and plan["jetpack"] == "6.2"
    assert plan["workspace_bytes"] == 10**9  # an eighth of 8 GB
    assert [part["role"] for part in plan["parts"]] == list(contract.roles)
    ports = [[p.name, p.dtype, list(p.shape)] for p in contract.inputs("decode")]
    told = plan["parts"][4]["inputs"]
    assert [[p["name"], p["dtype"], p["shape"]] for p in told] == ports
    assert {p["dtype"] for p in told if "past" in p["name"]} == {"FLOAT16"}
    assert plan["max_answer"] == 16
    with np.load(jetson / "tensorrt/goldens.npz") as tensors:
        for i, golden in enumerate(plan["goldens"]):
            assert tensors[f"{i}/logits"].argmax() == golden["token_ids"][0]
    assert len(plan["goldens"]) == len(open_bundle(jetson).manifest.goldens) > 0


@pytest.mark.parametrize("quant", ["none", "w8a8", "w8", "w4a16"])
def test_the_scripts_of_a_bundle_answer_as_the_host_did(compiled, stand_in, cudart, quant):
    """With the files of the bundle alone: a process that has no edgevlm but those."""
    bundle = compiled(quant=quant)
    env = os.environ | {"PYTHONPATH": str(stand_in), "EDGEVLM_CUDART": str(cudart)}
    call = [sys.executable, "-P", str(bundle / "run_on_device.py"), "--runs", "1", "--json"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answers"] and all(answer["ok"] for answer in told["answers"])
    assert {check["role"] for check in told["parts"]} == set(
        open_bundle(bundle).manifest.contract.roles
    )
    assert check_bundle(bundle) == []  # nothing was written into it


def test_a_picture_and_a_question_of_ones_own(compiled, stand_in, cudart, tmp_path):
    bundle = compiled(quant="w8a8")
    golden = open_bundle(bundle).manifest.goldens[0]
    call = [sys.executable, "-P", str(bundle / "run_on_device.py"), "--json"]
    asked = ["--image", str(bundle / golden.image), "--prompt", golden.question]
    env = os.environ | {"PYTHONPATH": str(stand_in), "EDGEVLM_CUDART": str(cudart)}
    done = subprocess.run([*call, *asked], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["own"]
    ids = tuple(told["token_ids"])
    assert ids[: len(golden.token_ids)] == golden.token_ids and told["answer"]
    assert {"preprocess", "vision", "prefill"} <= told["seconds"].keys()
    # a device has not the packages that prepare pictures: that is said, with the call
    (tmp_path / "pydantic.py").write_text("raise ImportError('No module named pydantic')")
    env["PYTHONPATH"] = f"{tmp_path}:{stand_in}"
    done = subprocess.run([*call, *asked], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "error EV433" in done.stderr and "pip install" in done.stderr
    done = subprocess.run([*call, "--prompt", "a"], env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "error EV411" in done.stderr


def test_a_classifier(edgevlm, tmp_path, stand_in, cudart):
    """Its plan has one part, and its goldens no words."""
    source = shade_classifier(tmp_path, ["a", "b", "c"], (0, 128, 255))
    out = tmp_path / "c.edgevlm"
    ended = edgevlm("compile", source, "--target", "jetson", "--preflight", "none", "-o", out)
    assert ended.status == 0, ended.err
    env = os.environ | {"PYTHONPATH": str(stand_in), "EDGEVLM_CUDART": str(cudart)}
    call = [sys.executable, "-P", str(out / "run_on_device.py"), "--runs", "1", "--json"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(answer["ok"] for answer in json.loads(done.stdout)["answers"])


def test_on_the_host_its_numbers_run_and_its_time_is_refused(edgevlm, compiled, jetson, picture):
    asked = ("--image", picture, "--prompt", "what is it?")
    assert edgevlm("run", jetson, *asked).status == 0
    assert edgevlm("verify", jetson).status == 0
    other = compiled(quant="w8a8")
    for call in (("profile", jetson), ("profile", jetson, "--ops"), ("compare", jetson, other)):
        ended = edgevlm(*call)
        assert (ended.status, ended.code) == (2, "EV434"), call
    assert "its engines are built on jetson-orin-nano-super, and timed there" in ended.err


def test_no_schedule_is_timed_for_a_machine_that_is_not_here(compiled):
    record = open_bundle(compiled(tokens="2", quant="w8a8")).record()
    assert record["payoff"] is None and record["quant"]["speed"] is None
    assert (
        "nothing was timed: this machine is no Jetson Orin Nano 8 GB, Super mode" in record["notes"]
    )


def test_a_sweep_times_what_it_cannot(edgevlm, micro_folder, tmp_path):
    call = ("--target", "jetson", "--over", "tokens=1,2", "-o", tmp_path / "s")
    ended = edgevlm("sweep", micro_folder, *call)
    assert (ended.status, ended.code) == (2, "EV434")


@pytest.mark.parametrize(
    ("target", "toolchain", "said"),
    [
        ("jetson", "jetpack-6.0", "TensorRT 8.6, of JetPack 6.0"),
        ("thor", "jetpack-6.2", "JetPack 6.2 on Thor (sm_110)"),
        ("jetson", "cuda-12", "toolchain 'cuda-12'"),
    ],
)
def test_toolchains_that_are_none(edgevlm, micro_folder, tmp_path, target, toolchain, said):
    out = tmp_path / "n.edgevlm"
    call = ("compile", micro_folder, "--target", target, "--toolchain", toolchain, "-o", out)
    ended = edgevlm(*call)
    assert (ended.status, ended.code) == (2, "EV308") and said in ended.err and not out.exists()


def test_a_toolchain_for_a_target_that_has_none(edgevlm, micro_folder, tmp_path):
    call = ("--target", "cpu", "--toolchain", "jetpack-6.2", "-o", tmp_path / "n.edgevlm")
    assert edgevlm("compile", micro_folder, *call).code == "EV220"


def test_a_newer_release_keeps_what_it_knows(compiled):
    import onnx

    old, new = (compiled(toolchain=f"tensorrt-{v}") for v in ("10.3", "10.15"))
    ops, opsets = [], []
    for bundle in (old, new):
        model = onnx.load(bundle / "tensorrt/prefill.onnx", load_external_data=False)
        ops.append({node.op_type for node in model.graph.node})
        opsets.append(model.opset_import[0].version)
    assert opsets == [20, 23]
    assert "RMSNormalization" in ops[1] - ops[0] and "Attention" not in ops[0] | ops[1]


def test_fp8_on_an_orin_is_told_before_any_pass_runs(edgevlm, micro_folder, tmp_path):
    call = ("--target", "jetson", "--quant", "fp8", "-o", tmp_path / "n.edgevlm")
    ended = edgevlm("compile", micro_folder, *call)
    assert (ended.status, ended.code) == (1, "EV303")
    assert "Orin (sm_87) multiplies no fp8" in ended.err and "fold-constants" not in ended.err


def test_a_preflight_by_the_real_thing(edgevlm, micro_folder, tmp_path):
    if module.installed() is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgevlm[tensorrt]'")
    out = tmp_path / "p.edgevlm"
    call = ("compile", micro_folder, "--target", "jetson", "--quant", "w8a8", "-o", out, "--json")
    ended = edgevlm(*call)
    told = ended.json["preflight"]
    assert told["done"].endswith("proxy sm86: 5 parts parsed and built")
    assert open_bundle(out).manifest.verified["preflight"] == told["done"]
    by_role = {part["role"]: part for part in told["parts"]}
    assert by_role["prefill"]["summary"]["int8_gemm"] > 0
    assert "preflight by tensorrt-rtx 1.7" in ended.err and "engine: not built" in ended.err
    # two channels a head are too few for a kernel of attention, and that is said
    assert any(line.startswith("decode: mha 0, expected 1") for line in told["odd"])
    assert all(f"preflight: {line}" in ended.err for line in told["odd"])


def test_what_is_not_installed_is_said(edgevlm, micro_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "installed", lambda: None)
    out = tmp_path / "p.edgevlm"
    ended = edgevlm("compile", micro_folder, "--target", "jetson", "-o", out)
    assert ended.status == 0 and "pip install 'edgevlm[tensorrt]'" in ended.err
    said = open_bundle(out).manifest.not_verified["preflight"]
    assert said == "tensorrt-rtx is not installed: pip install 'edgevlm[tensorrt]'"


def test_no_proxy_no_preflight(compiled, micro_folder, tmp_path, edgevlm):
    out = tmp_path / "h.edgevlm"
    assert edgevlm("compile", micro_folder, "--target", "h200", "-o", out).status == 0
    said = open_bundle(out).manifest.not_verified["preflight"]
    assert said == "tensorrt-rtx builds for no chip near sm_90"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "it was ended by SIGABRT"),
        ("import sys; print('no JSON'); sys.exit('out of luck')", "out of luck"),
        ("import time; time.sleep(60)", "it was not done within 1 s"),
    ],
)
def test_a_compiler_that_breaks_down(edgevlm, micro_folder, tmp_path, monkeypatch, program, said):
    """A crash of native code, no answer, no end: a line, and the old bundle stays."""
    (tmp_path / "broken.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "MAIN", "broken")
    monkeypatch.setattr(module, "installed", lambda: "1.7")
    monkeypatch.setattr(module, "PART_S", 0.2)
    out = tmp_path / "p.edgevlm"
    ended = edgevlm("compile", micro_folder, "--target", "jetson", "-o", out)
    assert (ended.status, ended.code) == (1, "EV309") and said in ended.err
    assert not out.exists()


def test_a_refusal_names_part_node_and_words():
    said = {"stage": "build", "node": "step", "op": "Attention", "text": "no kernel"}
    rows = [{"role": "embed", "ok": True}, {"role": "decode", "ok": False, "refusals": [said]}]
    with pytest.raises(Exception, match=r"EV309 tensorrt-rtx refuses part decode \(build, node st"):
        refuse_failed({"parts": rows})


def test_half_a_bundle_for_who_has_the_language_half(compiled, edgevlm, stand_in, cudart, picture):
    bundle = compiled(parts="vision,connector", quant="w8a8")
    manifest = open_bundle(bundle).manifest
    assert manifest.elsewhere == ("embed", "prefill", "decode")
    assert not (bundle / "tensorrt/prefill.onnx").exists()
    assert manifest.goldens  # what the whole says, the rest of it run by the reference executor
    ended = edgevlm("run", bundle, "--image", picture, "--prompt", "what?")
    assert ended.code == "EV323" and "has no embed, prefill, decode" in ended.err
    checked = edgevlm("verify", bundle)
    assert checked.status == 0 and "its goldens were not answered" in checked.err
    env = os.environ | {"PYTHONPATH": str(stand_in), "EDGEVLM_CUDART": str(cudart)}
    call = [sys.executable, "-P", str(bundle / "run_on_device.py"), "--json"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {c["role"] for c in json.loads(done.stdout)["parts"]} == {"vision", "connector"}


@pytest.mark.parametrize("parts", ["vision,sight", ""])
def test_parts_there_are_none_of(edgevlm, micro_folder, tmp_path, parts):
    call = ("--target", "jetson", "--parts", parts, "-o", tmp_path / "n.edgevlm")
    assert edgevlm("compile", micro_folder, *call).code == "EV220"


def test_a_plan_that_was_changed_is_seen(jetson, tmp_path, edgevlm):
    own = shutil.copytree(jetson, tmp_path / "own.edgevlm")
    plan = own / "tensorrt/plan.json"
    plan.write_text(plan.read_text().replace('"sm": 87', '"sm": 99'))
    ended = edgevlm("verify", own)
    assert ended.code == "EV330" and "tensorrt/plan.json" in ended.err
