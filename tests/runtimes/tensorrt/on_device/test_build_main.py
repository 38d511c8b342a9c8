"""`build_on_device.py` and the host's preflight, which is the same program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro.jetson import change_plan
from micro.typed import block

from edgevlm.runtimes.tensorrt.on_device import build_main
from edgevlm.runtimes.tensorrt.on_device.build import build_part

MODULE = "edgevlm.runtimes.tensorrt.on_device.build_main"
CACHE, TIMES = "timing-tensorrt-10.3.0-sm87.cache", b"TIMES OF 10.3.0: "


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_engines_are_built_beside_the_bundle(bundle, main, tensorrt, levers):
    before, inside = levers.fake_used(), names(bundle)
    done = main("build", "--bundle", bundle, "--json")
    assert done.status == 0, done.err
    parts = {part["role"]: part for part in done.out["parts"]}
    assert list(parts) == ["vision", "connector", "embed", "prefill", "decode"]
    assert all(p["ok"] and p["why"] == "there is none yet" for p in parts.values())
    assert all(p["engine_bytes"] > 100 and p["build_s"] >= 0 for p in parts.values())
    assert (done.out["library"], done.out["version"], done.out["cc"]) == (
        "tensorrt", "10.3.0", "SM87"
    )  # fmt: skip
    engines = Path(done.out["engines"])
    assert engines == bundle.with_name("micro.engines")
    assert sum(name.endswith(".engine") for name in names(engines)) == 5
    assert names(bundle) == inside and levers.fake_used() == before
    assert "vision: building (there is none yet)" in done.err


def test_they_are_found_again(bundle, main, tensorrt, monkeypatch):
    main("build", "--bundle", bundle)
    monkeypatch.setattr(tensorrt, "Builder", None)  # nothing may be built now
    tensorrt.Builder = type("Builder", (), {"__init__": lambda self, log: pytest.fail("built")})
    done = main("build", "--bundle", bundle, "--json")
    assert done.status == 0 and [p["why"] for p in done.out["parts"]] == [""] * 5
    assert all(p["network_layers"] and p["layers"] for p in done.out["parts"])


@pytest.mark.parametrize(
    "change, why",
    [
        ("version", "it was built by tensorrt 10.3.0, this is tensorrt 10.7.0"),
        ("gpu", "it was built on SM87, this is SM110"),
        ("artifact", "it was built from another artifact"),
        ("workspace", "it was built with another workspace"),
        ("rebuild", "it was asked for"),
    ],
)
def test_what_no_longer_matches_is_built_again(change, why, bundle, main, tensorrt, levers):
    main("build", "--bundle", bundle)
    more = {"workspace": ["--workspace", 64], "rebuild": ["--rebuild"], "gpu": ["--any-device"]}
    if change == "version":
        tensorrt.__version__ = "10.7.0"
    if change == "gpu":
        levers.fake_set_compute(110)
    if change == "artifact":
        change_plan(bundle, lambda plan: [p.update(digest="cd" * 32) for p in plan["parts"]])
    done = main("build", "--bundle", bundle, "--json", *more.get(change, ()))
    assert done.status == 0, done.err
    assert {part["why"] for part in done.out["parts"]} == {why}


def test_prune_removes_what_is_older_and_keeps_parts_that_were_not_asked_for(
    bundle, main, tensorrt
):
    main("build", "--bundle", bundle)
    tensorrt.__version__ = "10.7.0"
    main("build", "--bundle", bundle)
    done = main("build", "--bundle", bundle, "--prune", "--parts", "vision", "--json")
    assert len(done.out["removed"]) == 11 and len(done.out["parts"]) == 1
    left = names(bundle.with_name("micro.engines"))
    assert sum(name.endswith(".engine") for name in left) == 5
    assert CACHE in done.out["removed"] and "timing-tensorrt-10.7.0-sm87.cache" in left


def test_a_timing_cache_grows_or_is_not_there(bundle, main, tensorrt, tmp_path):
    main("build", "--bundle", bundle)
    assert bundle.with_name("micro.engines").joinpath(CACHE).read_bytes() == TIMES + b"+++++"
    main("build", "--bundle", bundle, "--no-timing-cache", "--engines", tmp_path / "e")
    assert CACHE not in names(tmp_path / "e")


@pytest.mark.parametrize("how", ["none", "false"])
def test_a_timing_cache_of_another_tensorrt_begins_anew(
    how, bundle, main, tensorrt, monkeypatch, tmp_path
):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / CACHE).write_bytes(b"of a TensorRT long gone")
    monkeypatch.setenv("FAKE_TENSORRT_CACHE", how)
    done = main("build", "--bundle", bundle, "--engines", tmp_path / "e")
    assert done.status == 0, done.err
    assert (tmp_path / "e" / CACHE).read_bytes() == TIMES + b"+++++"


def test_a_tensorrt_that_makes_no_timing_cache_builds_all_the_same(
    bundle, main, tensorrt, monkeypatch
):
    monkeypatch.setenv("FAKE_TENSORRT_CACHE", "always")
    assert main("build", "--bundle", bundle).status == 0
    assert CACHE not in names(bundle.with_name("micro.engines"))


def test_times_are_of_one_tensorrt_and_one_kind_of_gpu(bundle, main, tensorrt, levers):
    main("build", "--bundle", bundle)
    tensorrt.__version__ = "10.7.0"
    levers.fake_set_compute(110)
    main("build", "--bundle", bundle, "--any-device")
    assert {CACHE, "timing-tensorrt-10.7.0-sm110.cache"} <= {
        *names(bundle.with_name("micro.engines"))
    }


def test_a_refusal_names_node_and_op(bundle, main, tensorrt, monkeypatch):
    monkeypatch.setenv("FAKE_TENSORRT_REFUSE", "MatMul")
    done = main("build", "--bundle", bundle, "--json")
    assert done.status == 1 and done.out["error"]["code"] == "EV350"
    refused = [p["role"] for p in done.out["parts"] if not p["ok"]]
    assert refused and all(r in done.err for r in refused)
    [first, *_] = next(p for p in done.out["parts"] if not p["ok"])["refusals"]
    assert first["op"] == "MatMul" and first["node"] and first["stage"] == "parse"


def test_what_an_older_tensorrt_refuses_is_told_with_the_call_that_mends_it(
    bundle, main, tensorrt, monkeypatch
):
    """A bundle that was moved to a device with another JetPack."""
    monkeypatch.setenv("FAKE_TENSORRT_REFUSE", "MatMul")
    change_plan(bundle, lambda plan: plan.update(tensorrt="10.13"))
    for which in ("build", "run"):
        lines = main(which, "--bundle", bundle).err.splitlines()[-3:]
        assert lines[0].startswith("error EV350: TensorRT refuses connector, ")
        assert "MatMul is not for this one" in lines[0]
        assert "written for TensorRT 10.13, this is 10.3.0" in lines[1]
        assert "--target jetson-orin-nano-super --toolchain tensorrt-10.3 " in lines[2]
    tensorrt.__version__ = "10.13.2"
    assert "please report it" in main("build", "--bundle", bundle).err


EXPECTS = {"mha": 1, "fp32_gemm": 10**6}


def test_kernels_that_are_missing_are_a_warning_or_under_strict_an_error(bundle, main, tensorrt):
    change_plan(bundle, lambda plan: plan["parts"][3].update(expects=EXPECTS))
    done = main("build", "--bundle", bundle)
    assert done.status == 0 and "warning EV352: mha: 0 found, 1 wanted" in done.out
    done = main("build", "--bundle", bundle, "--strict")
    assert done.status == 1 and "error EV352" in done.err and "prefill: mha" in done.err


FAULTS = {
    "EV356": lambda bundle, levers: levers.fake_set_compute(110),
    "EV357": lambda bundle, levers: (bundle / "tensorrt" / "plan.json").write_text("{"),
    "EV330": lambda bundle, levers: (bundle / "tensorrt" / "vision.onnx").write_bytes(b"?"),
    "EV354": lambda bundle, levers: levers.fake_set_room(levers.fake_used() + 10),
}


@pytest.mark.parametrize("code", FAULTS)
def test_what_goes_wrong_is_three_lines_and_json(code, bundle, main, tensorrt, levers):
    FAULTS[code](bundle, levers)
    done = main("build", "--bundle", bundle, "--json")
    assert done.status == 1 and done.out["error"]["code"] == code
    assert done.err.startswith(f"error {code}: ") and len(done.err.splitlines()) == 3


@pytest.mark.parametrize(
    "key, value, told",
    [("shape", [1, 3, 9, 9], "wanted ((1, 3, 9, 9)"), ("dtype", "FLOAT16", "'float16')")],
)
def test_an_engine_with_other_ports_is_told(key, value, told, bundle, main, tensorrt, levers):
    before = levers.fake_used()
    change_plan(bundle, lambda plan: plan["parts"][0]["inputs"][0].update({key: value}))
    done = main("build", "--bundle", bundle)
    assert done.status == 1 and "EV304" in done.err and told in done.err
    assert levers.fake_used() == before


@pytest.mark.parametrize("more", [[], ["--no-timing-cache"]])
def test_a_folder_that_cannot_be_made(more, bundle, main, tensorrt, levers, tmp_path):
    (tmp_path / "file").write_text("in the way of a folder")
    before = levers.fake_used()
    words = ("--engines", tmp_path / "file" / "engines", *more)
    done = main("build", "--bundle", bundle, *words)
    assert done.status == 1 and "EV354" in done.err and "--engines" in done.err
    assert levers.fake_used() == before


def test_an_engine_that_cannot_be_read(bundle, main, tensorrt, monkeypatch):
    main("build", "--bundle", bundle)

    def refused(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    done = main("run", "--bundle", bundle)
    assert done.status == 1 and "EV354" in done.err and "Permission denied" in done.err


def test_engines_are_closed_one_by_one_where_they_are_only_built(
    bundle, main, tensorrt, levers, monkeypatch
):
    before, seen = levers.fake_used(), []
    make = tensorrt.Builder.build_serialized_network

    def build(self, network, config):
        seen.append(levers.fake_used())
        return make(self, network, config)

    monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", build)
    main("build", "--bundle", bundle)
    assert seen == [before] * 5


def test_float32_is_not_rounded_to_tf32(bundle, main, tensorrt):
    main("build", "--bundle", bundle)
    for engine in bundle.with_name("micro.engines").glob("*.engine"):
        head = engine.read_bytes().partition(b"\n")[0]
        assert json.loads(head[len(tensorrt.MAGIC) :])["flags"] == []
    tensorrt.BuilderFlag = tensorrt._enum(
        "BuilderFlag", "FP16"
    )  # of a TensorRT that has no such flag
    assert main("build", "--bundle", bundle, "--rebuild").status == 0


def test_memory_that_runs_out_while_engines_open(bundle, main, tensorrt, levers, monkeypatch):
    monkeypatch.setattr("edgevlm.runtimes.tensorrt.on_device.making.check_room", lambda *_: None)
    before = levers.fake_used()
    levers.fake_set_room(before + 2000)
    done = main("run", "--bundle", bundle, "--json")
    assert done.status == 1 and done.out["error"]["code"] == "EV354"
    assert levers.fake_used() == before  # engines that were open are closed


def test_a_part_that_there_is_not_is_a_wrong_call(bundle, main, tensorrt):
    done = main("build", "--bundle", bundle, "--parts", "vision,ears")
    assert done.status == 2 and "EV220" in done.err and "ears" in done.err


@pytest.mark.parametrize("words", [["--workspace", "0"], ["--workspace", "x"], ["--unknown"]])
def test_words_that_mean_nothing_are_refused(words, bundle):
    with pytest.raises(SystemExit) as ended:
        build_main.main(["--bundle", str(bundle), *words])
    assert ended.value.code == 2


def test_trtexec_does_the_same_and_needs_no_tensorrt(bundle, main, tmp_path, monkeypatch):
    monkeypatch.setattr(build_main, "find_api", lambda name: pytest.fail("asked for"))
    done = main("build", "--bundle", bundle, "--trtexec", tmp_path, "--parts", "vision")
    assert done.status == 0 and "/trtexec --onnx=" in done.out
    assert done.out.splitlines()[0] == f"mkdir -p {tmp_path}" and len(done.out.splitlines()) == 2


def test_what_trtexec_left_is_told_as_a_build_is(bundle, main, tmp_path):
    change_plan(bundle, lambda plan: plan["parts"][0].update(expects={"int8_gemm": 2, "mha": 0}))
    tensor = {"Name": "x", "Dimensions": [4, 4], "Format/Datatype": "Row major Int8 format"}
    layer = {"Name": "fc", "LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor]}
    told = {
        "layers": {"Layers": [layer]},
        "profile": [{"count": 2}, {"name": "fc", "averageMs": 0.5}],
        "times": [{"computeMs": 1.0}, {"computeMs": 3.0}],
    }
    for name, content in told.items():
        (tmp_path / f"vision.{name}.json").write_text(json.dumps(content))
    words = ("--bundle", bundle, "--read-trtexec", tmp_path, "--parts", "vision")
    done = main("build", *words, "--json")
    [run] = done.out["runs"]
    assert done.status == 0 and [v["ok"] for v in run["expects"]] == [None, True]
    assert run["run_ms"]["p50_ms"] == 2.0 and run["layer_ms"] == {"fc": 0.5}
    # of how many nodes a layer was made, nobody has told
    assert "int8_gemm: 1 found, 2 wanted; cannot be told" in main("build", *words).out
    done = main("build", "--bundle", bundle, "--read-trtexec", tmp_path)
    assert done.status == 1 and "connector.layers.json" in done.err


@pytest.fixture
def typed_bundle(bundle):
    """Its vision part is an int8 block, its connector the same with scales along the wrong axis."""
    inside = bundle / "tensorrt"
    block(inside / "vision.onnx", "int8")
    block(inside / "connector.onnx", "int8-wrong-axis")
    expects = {"int8_gemm": 6, "mha": 1, "fp32_gemm": 0}

    def change(plan):
        del plan["parts"][2:]
        for part in plan["parts"]:
            part.update(expects=expects, sha256=digest(bundle / part["file"]))

    change_plan(bundle, change)
    (bundle / "SHA256SUMS").unlink()
    return bundle


def digest(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_preflight_by_the_real_builder(typed_bundle, rtx, tmp_path):
    """As the host calls it: a process of its own, one JSON object, nothing written."""
    words = ["--compute-capability", "SM86", "--library", rtx.name, "--json"]
    call = [sys.executable, "-m", MODULE, "--bundle", str(typed_bundle), *words]
    ran = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["preflight"] and told["cc"] == "SM86" and told["version"].startswith("1.")
    right, wrong = told["parts"]
    assert [v["ok"] for v in right["expects"]] == [True, True, True]
    assert [v["ok"] for v in wrong["expects"]] == [False, True, True]
    assert right["summary"]["int8_gemm"] == 6 and right["layers"][0]["inputs"]
    assert not typed_bundle.with_name("micro.engines").exists()


def test_preflight_gathers_the_refusals_of_all_parts(typed_bundle, rtx, main):
    block(typed_bundle / "tensorrt" / "vision.onnx", "int8-zero-point")
    path = typed_bundle / "tensorrt" / "vision.onnx"
    change_plan_free(typed_bundle, digest(path))
    words = ("--compute-capability", "SM86", "--library", rtx.name, "--json")
    done = main("build", "--bundle", typed_bundle, *words)
    assert done.status == 1 and done.out["error"]["code"] == "EV350"
    assert [part["ok"] for part in done.out["parts"]] == [False, True]
    assert done.out["parts"][0]["refusals"][0]["op"] == "QuantizeLinear"


def change_plan_free(bundle, sha256):
    path = bundle / "tensorrt" / "plan.json"
    plan = json.loads(path.read_text())
    plan["parts"][0]["sha256"] = sha256
    path.write_text(json.dumps(plan))


@pytest.mark.parametrize("library, gpu", [("tensorrt", "SM87"), ("tensorrt_rtx_bindings", "SM87")])
def test_a_gpu_that_cannot_be_built_for_from_afar(library, gpu, bundle, main, tensorrt, request):
    if library != "tensorrt":
        request.getfixturevalue("rtx")
    words = ("--compute-capability", gpu, "--library", library)
    done = main("build", "--bundle", bundle, *words)
    assert done.status == 2 and "EV356" in done.err


def started(bundle, cudart, tmp_path, steps):
    (tmp_path / "lib").mkdir()
    fake = Path(sys.modules["micro"].__file__).with_name("fake_tensorrt.py")
    (tmp_path / "lib" / "tensorrt.py").write_text(fake.read_text())
    paths = [str(tmp_path / "lib"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "EDGEVLM_CUDART": str(cudart),
        "FAKE_TENSORRT_STEPS": str(steps),
    }
    call = [sys.executable, "-m", MODULE, "--bundle", str(bundle)]
    child = subprocess.Popen(call, env=env, stderr=subprocess.PIPE, text=True)
    line = child.stderr.readline()
    assert "vision: building" in line, line + child.stderr.read()
    return child


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_no_half_engine(how, bundle, cudart, tmp_path):
    child = started(bundle, cudart, tmp_path, steps=6000)
    time.sleep(1)
    child.send_signal(how)
    _, told = child.communicate(timeout=60)
    if how == signal.SIGINT:
        assert child.returncode == 130 and "interrupted" in told and "Traceback" not in told
    else:
        assert child.returncode == -how
    folder = bundle.with_name("micro.engines")
    assert not folder.exists() or names(folder) == []


def test_ctrl_c_within_the_real_builder_ends_the_build(rtx, tmp_path, monkeypatch):
    """It comes while the builder logs, where an exception would end the process."""
    path = block(tmp_path / "b.onnx")
    make, seen = rtx.log, []

    def log(loud=False):
        made = make(loud)
        kind = type(made)

        class Interrupting(kind):
            def log(self, severity, message):
                kind.log(self, severity, message)
                if not seen and "Graph optimization" in message:
                    seen.append(message)
                    signal.raise_signal(signal.SIGINT)

        return Interrupting(loud)

    monkeypatch.setattr(rtx, "log", log)
    with pytest.raises(KeyboardInterrupt):
        build_part(path, rtx, compute_capability="SM86")
    assert seen and signal.getsignal(signal.SIGINT) is signal.default_int_handler
