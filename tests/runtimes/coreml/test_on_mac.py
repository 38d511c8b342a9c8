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
    """Of one function. opened: all of them, in the order of being loaded."""

    opened: list[Model] = []

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
        return {"ops": rows}

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
    monkeypatch.setattr(Model, "__init__", refuse)
    with pytest.raises(JobFault, match="EV304") as caught:
        find_runtime("coreml").open(bundle)
    assert "Core ML does not load it" in caught.value.why


def test_a_package_of_another_model_is_told_before_it_is_loaded(made, make_micro, mac, tmp_path):
    other = make_micro(layers=1, width=32, heads=2)
    with pytest.raises(JobFault, match="not as the contract says"):
        CoremlParts(made.folder, made.artifacts, other.contract)
    assert Model.opened == []
    shutil.copytree(made.folder, tmp_path / "cut")
    next((tmp_path / "cut").rglob("*.mlmodel")).write_bytes(b"no protobuf")
    with pytest.raises(JobFault, match="EV304"):
        CoremlParts(tmp_path / "cut", made.artifacts, made.model.contract)
