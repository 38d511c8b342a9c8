"""A bundle opened by Core ML: a stand-in for coremltools' classes, which our evaluator runs.

It takes what coremltools 9 takes (coremltools/models/model.py) and refuses the rest: float32 and
int32 arrays by the names of a function's inputs, one state for all functions that name its caches.
"""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.pass_manager import apply_unchecked
from edgevlm.compiler.reference import observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.runtimes import find_runtime

pytest.importorskip("coremltools", reason="packages are made by: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml import on_mac
from edgevlm.runtimes.coreml import runtime as runtime_module
from edgevlm.runtimes.coreml.mil_evaluator import MilProgram
from edgevlm.runtimes.coreml.on_mac import CoremlParts
from edgevlm.runtimes.coreml.package import coremltools
from edgevlm.runtimes.coreml.scripts.benchmark import alone, rows_of, zeros


class State:
    def __init__(self, program) -> None:
        self.held, self.names = program.new_state(), set(program.states)

    def read_state(self, name):
        if name not in self.names:
            raise RuntimeError(f"no state {name}")
        return np.asarray(self.held[name], np.float16)

    def write_state(self, name, value):
        assert value.dtype == np.float16 and name in self.names
        self.held[name] = value


class Model:
    """Of one function. opened: all of them, in the order of being loaded.

    As coremltools' own, it says nothing where Core ML refuses what it is given.
    """

    opened: list[Model] = []
    __proxy__, _framework_error = object(), None

    def __init__(self, model, compute_units, function_name) -> None:
        assert isinstance(model, str)
        self.program, self.name, self.units = MilProgram(model), function_name, compute_units
        Model.opened.append(self)

    def make_state(self):
        return State(self.program)

    def predict(self, data, state=None):
        function = self.program.functions[self.name]
        assert set(data) == set(function.inputs)
        for name, array in data.items():
            kind = function.inputs[name].dtype.kind
            assert array.dtype == {"float": np.float32, "int": np.int32}[kind], name
        if bool(function.states) != (state is not None):
            raise RuntimeError('NSLocalizedDescription = "must be an MLState, but it was not."')
        given = {n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in data.items()}
        return self.program.call(self.name, given, state.held if state else None)


@pytest.fixture(scope="module")
def made(make_micro, tmp_path_factory):
    source = make_micro(layers=1, width=64, heads=2, tower=1)
    probes = inputs_of(source)
    recipe = compose("mac-m4", "coreml", Flags(), source)
    model = apply_unchecked(source, make_passes(recipe), probes)
    folder, runtime = tmp_path_factory.mktemp("mac"), find_runtime("coreml")
    artifacts = runtime.lower(model, folder)
    return SimpleNamespace(model=model, probes=probes, folder=folder, artifacts=artifacts)


@pytest.fixture
def mac(monkeypatch):
    real = coremltools()
    models = SimpleNamespace(MLModel=Model)
    stand_in = SimpleNamespace(models=models, ComputeUnit=real.ComputeUnit)
    Model.opened.clear()
    monkeypatch.setattr(on_mac, "coremltools", lambda: stand_in)
    monkeypatch.setattr(runtime_module, "_on_a_mac", lambda: True)
    return real


@pytest.fixture
def bundle(made):
    """What the runtime asks of one."""
    target = SimpleNamespace(device="mac-m4")
    manifest = SimpleNamespace(
        artifacts=made.artifacts, contract=made.model.contract, target=target
    )
    return SimpleNamespace(folder=made.folder, manifest=manifest)


def test_parts_are_functions_that_share_one_state(made, bundle, mac):
    parts = find_runtime("coreml").open(bundle, checked=True)
    assert isinstance(parts, CoremlParts)
    assert [m.name for m in Model.opened] == list(made.model.parts)
    assert {m.units for m in Model.opened} == {mac.ComputeUnit.CPU_AND_NE}
    here = find_runtime("coreml").open_artifacts(made.folder, made.artifacts, made.model.contract)
    seen = observe(made.model, made.probes)
    found = compare_parts(here, parts, seen, made.model.parts)
    assert set(found) == set(made.model.parts)
    assert min(drift.sqnr_db for drift in found.values()) == 200  # caches included


def test_answers_are_the_same_token_for_token(made, bundle, mac):
    parts = find_runtime("coreml").open(bundle)
    want, found = (observe(made.model, made.probes, p) for p in (None, parts))
    assert found.answers == want.answers and any(map(len, want.answers))


def test_it_is_timed_there(made, bundle, mac):
    find_runtime("coreml").check_timed(bundle)


def test_elsewhere_our_evaluator_opens_it(made, bundle):
    assert not isinstance(find_runtime("coreml").open(bundle), CoremlParts)
    with pytest.raises(Exception, match="EV434") as caught:
        find_runtime("coreml").check_timed(bundle)
    assert "ssh://MAC" in caught.value.fix


def test_single_ops_are_estimates_and_stay_that(made, bundle, mac, monkeypatch):
    async def told(tools, perf, asked):
        assert asked["function"] in made.model.parts and asked["runs"] == 20
        rows = [{"op": "a", "type": "conv", "preferred": "ANE", "ms": 0.5},
                {"op": "b", "type": "conv", "preferred": "CPU", "ms": 0.25}]  # fmt: skip
        return {"schema": 1, "coremltools": "9.0", "macos": "15.1", "machine": "arm64",
                "units": asked["units"], "function": asked["function"], "load_ms": [9.0],
                "predict_ms": [1.0], "ops": rows}  # fmt: skip

    monkeypatch.setattr(on_mac, "timed", told)
    report = find_runtime("coreml").profile_report(bundle, "measured-device")
    rows = report["ops"] + report["layers"]
    assert {row["how"] for row in rows} == {"estimated-mlcomputeplan"}
    assert {row["unit"] for row in report["layers"]} == {"ANE", "CPU"}
    assert [r["ms"] for r in report["ops"]] == [0.75] * len(made.model.parts)


def test_what_core_ml_refuses_is_told(made, bundle, mac, monkeypatch):
    def refuse(self, *_, **__):
        raise RuntimeError("Error in declaring network.\nmore")

    parts = find_runtime("coreml").open(bundle)
    monkeypatch.setattr(Model, "predict", refuse)
    with pytest.raises(JobFault, match="EV307 artifact vision failed") as caught:
        observe(made.model, made.probes, parts)
    assert caught.value.why == "Error in declaring network."
    monkeypatch.setattr(Model, "__proxy__", None)
    for error, why in (
        (RuntimeError("Error reading model stream.\nmore"), "reading model stream."),
        (None, "a later macOS"),
    ):
        monkeypatch.setattr(Model, "_framework_error", error)
        with pytest.raises(JobFault, match="EV304") as caught:
            find_runtime("coreml").open(bundle)
        assert "Core ML does not load it" in caught.value.why and why in caught.value.why


def test_a_function_alone_computes_what_it_does_among_others(made, tools, tmp_path):
    """What is timed: with coremltools' own classes, but for what only macOS has."""
    path = made.folder / made.artifacts[0].file
    whole = tools.models.MLModel(str(path.parent), skip_model_load=True)
    program = MilProgram(path.parent)
    for role, function in program.functions.items():
        spec = alone(whole.get_spec(), role)
        model = tools.models.MLModel(spec, weights_dir=whole.weights_dir, skip_model_load=True)
        assert not model._is_multifunction() and model._is_stateful() == bool(function.states)
        model.save(str(tmp_path / f"{role}.mlpackage"))
        one = MilProgram(tmp_path / f"{role}.mlpackage")
        want = program.call(role, zeros(spec), program.new_state())
        found = one.call("main", zeros(spec), one.new_state())
        assert set(found) == set(want) and set(one.states) == set(function.states)
        for name in want:
            np.testing.assert_array_equal(found[name], want[name])


def test_ops_with_several_outputs_are_one_row(made, tools):
    """Told as coremltools tells those with two: by time, twice. Ops of a real function."""
    path = made.folder / made.artifacts[0].file
    whole = tools.models.MLModel(str(path.parent), skip_model_load=True)
    spec = alone(whole.get_spec(), "prefill")
    (function,) = spec.mlProgram.functions.values()
    ops = [op for op in function.block_specializations[function.opset].operations
           if op.type != "const" and op.outputs]  # fmt: skip
    usage = SimpleNamespace(preferred_compute_device=object())
    told = [
        SimpleNamespace(spec=op, compute_device_usage=usage,
                        measurement=SimpleNamespace(statistics=SimpleNamespace(median=float(i))))
        for i, op in enumerate(ops) for _ in range(2)
    ]  # fmt: skip
    rows = rows_of(spec, told[::-1])
    assert [row["ms"] for row in rows] == list(range(len(ops)))


def test_a_package_of_another_model_is_told_before_it_is_loaded(made, make_micro, mac, tmp_path):
    other = make_micro(layers=1, width=32, heads=2)
    with pytest.raises(JobFault, match="not as the contract says"):
        CoremlParts(made.folder, made.artifacts, other.contract)
    assert Model.opened == []
    shutil.copytree(made.folder, tmp_path / "cut")
    next((tmp_path / "cut").rglob("*.mlmodel")).write_bytes(b"no protobuf")
    with pytest.raises(JobFault, match="EV304"):
        CoremlParts(tmp_path / "cut", made.artifacts, made.model.contract)
