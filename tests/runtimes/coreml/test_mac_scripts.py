"""What a Mac is sent, run here against stand-ins for its coremltools: what it prints is parsed."""

from __future__ import annotations

import json
import runpy
import sys
from importlib import resources
from types import ModuleType, SimpleNamespace

import pytest

from edgevlm.runtimes.coreml.benchmark import parse_benchmark
from edgevlm.runtimes.coreml.compute_plan import parse_plan

SCRIPTS = resources.files("edgevlm.runtimes.coreml") / "scripts"


class Neural:
    pass


class Cpu:
    pass


Neural.__name__, Cpu.__name__ = "MLNeuralEngineComputeDevice", "MLCPUComputeDevice"


def op(name: str, kind: str, device, cost, blocks=()):
    outputs = [SimpleNamespace(name=name)] if name else []
    return SimpleNamespace(outputs=outputs, operator_name=kind, blocks=list(blocks),
                           device=device, cost=cost)  # fmt: skip


class Plan:
    """Stands for MLComputePlan: two ops, one of them in a block, and a constant."""

    def __init__(self, path, units) -> None:
        self.path, self.units = path, units
        inner = SimpleNamespace(operations=[op("b", "ios17.topk", Cpu(), None)])
        ops = [op("k", "const", None, None), op("a", "ios18.conv", Neural(), 0.75, [inner])]
        function = SimpleNamespace(block=SimpleNamespace(operations=ops))
        program = SimpleNamespace(functions={"main": function})
        self.model_structure = SimpleNamespace(program=program)

    @classmethod
    def load_from_path(cls, path, compute_units):
        assert path.endswith(".mlmodelc")
        return cls(path, compute_units)

    def get_compute_device_usage_for_mlprogram_operation(self, op):
        if op.device is None:
            return None
        both = [Cpu(), op.device]
        return SimpleNamespace(preferred_compute_device=op.device, supported_compute_devices=both)

    def get_estimated_cost_for_mlprogram_operation(self, op):
        return None if op.cost is None else SimpleNamespace(weight=op.cost)


@pytest.fixture
def a_mac(monkeypatch, capsys):
    """coremltools on macOS, by modules of the same names; runs a script and gives what it said."""
    saved = []

    class Descriptor:
        def add_function(self, path, function, name):
            saved.append((path, function, name))

    def modules(functions=("main",)):
        described = SimpleNamespace(functions=list(functions) if len(functions) > 1 else [])
        spec = SimpleNamespace(
            mlProgram=SimpleNamespace(functions=dict.fromkeys(functions)), description=described
        )

        class Model:
            def __init__(self, path, **options) -> None:
                self.options = options

            def get_spec(self):
                return spec

        names = ("coremltools", "coremltools.models", "coremltools.models.compute_plan",
                 "coremltools.models.utils", "coremltools.models.ml_program",
                 "coremltools.models.ml_program.experimental",
                 "coremltools.models.ml_program.experimental.perf_utils",
                 "coremltools.models.ml_program.experimental.remote_device")  # fmt: skip
        made = {name: ModuleType(name) for name in names}
        for name, module in made.items():
            monkeypatch.setitem(sys.modules, name, module)
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(made[parent], last, module)
        top = made["coremltools"]
        top.__version__, top.ComputeUnit = "9.0", {"CPU_AND_NE": "units", "ALL": "all"}
        top.models.MLModel = Model
        top.models.compute_plan.MLComputePlan = Plan
        top.models.utils.MultiFunctionDescriptor = Descriptor
        top.models.utils.save_multifunction = lambda whole, path: None
        top.models.utils.compile_model = lambda path, to: to
        return made

    def run(name: str, *arguments: str) -> bytes:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        assert end.value.code == 0
        return capsys.readouterr().out.encode()

    return SimpleNamespace(modules=modules, run=run, saved=saved)


def test_the_plan_of_one_function(a_mac):
    a_mac.modules()
    found = parse_plan(a_mac.run("compute_plan", "/m.mlpackage", "CPU_AND_NE"))
    rows = [(r.function, r.op, r.type, r.preferred, r.supported, r.cost) for r in found.rows]
    assert rows == [("main", "a", "ios18.conv", "ANE", ["CPU", "ANE"], 0.75),
                    ("main", "b", "ios17.topk", "CPU", ["CPU", "CPU"], None)]  # fmt: skip
    assert found.coremltools == "9.0" and found.units == "CPU_AND_NE" and not a_mac.saved


def test_functions_are_planned_one_by_one(a_mac):
    a_mac.modules(("prefill", "decode"))
    found = parse_plan(a_mac.run("compute_plan", "/m.mlpackage", "ALL"))
    assert [r.function for r in found.rows] == ["prefill", "prefill", "decode", "decode"]
    assert a_mac.saved == [("/m.mlpackage", "prefill", "main"), ("/m.mlpackage", "decode", "main")]


@pytest.fixture
def spec_of():
    """Functions of four ops; those called decode have a state."""
    proto = pytest.importorskip("coremltools.proto.Model_pb2", reason="edgevlm[coreml]")

    def make(functions):
        spec = proto.Model()
        for name in functions:
            program = spec.mlProgram.functions[name]
            program.opset = "CoreML8"
            for kind, outs in (("const", "k"), ("conv", "a"), ("split", "bc"), ("relu", "d")):
                op = program.block_specializations["CoreML8"].operations.add(type=kind)
                for out in outs:
                    op.outputs.add(name=out)
            described = spec.description.functions.add(name=name)
            for port, kind in (("x", "FLOAT32"), ("ids", "INT32")):
                array = described.input.add(name=port).type.multiArrayType
                array.dataType = array.ArrayDataType.Value(kind)
                array.shape.extend([1, 4])
            if name == "decode":
                described.state.add(name="key_0")
        spec.description.defaultFunctionName = functions[0]
        return spec

    return make


class Benchmarker:
    """Its rows are by time, and one an output."""

    made = []

    def __init__(self, model, device=None) -> None:
        self.spec = model.spec
        Benchmarker.made.append((model, device))

    async def benchmark_load(self, iterations):
        return SimpleNamespace(samples=[100.0 + i for i in range(iterations)])

    async def benchmark_predict(self, inputs, iterations, warmup):
        assert warmup and not any(array.any() for array in inputs.values())
        assert {n: a.dtype.name for n, a in inputs.items()} == {"x": "float32", "ids": "int32"}
        return SimpleNamespace(samples=[10.0 + i for i in range(iterations)])

    async def benchmark_operation_execution(self, inputs, iterations, warmup):
        (function,) = self.spec.mlProgram.functions.values()
        ops = {op.type: op for op in function.block_specializations["CoreML8"].operations}

        def info(kind, median):
            statistics = None if median is None else SimpleNamespace(median=median)
            usage = SimpleNamespace(preferred_compute_device=Neural())
            return SimpleNamespace(spec=ops[kind], compute_device_usage=usage,
                                   measurement=SimpleNamespace(statistics=statistics))  # fmt: skip

        return [info("split", 5.0), info("split", 5.0), info("conv", 2.5), info("const", None)]


@pytest.fixture
def timed(a_mac, spec_of):
    def run(functions=("prefill", "decode"), **asked):
        spec = spec_of(functions)
        modules = a_mac.modules(functions)

        class Model:
            weights_dir = "/m/weights"

            def __init__(self, given, **options) -> None:
                self.spec, self.options = given, options
                assert options["skip_model_load"]  # no time of loading it twice

            def get_spec(self):
                assert self.spec == "/m"
                return spec

        modules["coremltools"].models.MLModel = Model
        experimental = modules["coremltools.models.ml_program.experimental"]
        experimental.perf_utils.MLModelBenchmarker = Benchmarker
        Benchmarker.made.clear()
        asked = {"model": "/m", "function": "decode", "units": "ALL", "loads": 2, "runs": 3,
                 "phone": None, **asked}  # fmt: skip
        return lambda: parse_benchmark(a_mac.run("benchmark", json.dumps(asked))), modules

    return run


def test_a_benchmark_of_the_mac(timed):
    run, _ = timed()
    found = run()
    assert (found.load_ms, found.predict_ms) == ([100, 101], [10, 11, 12])
    assert found.predict_median_ms == 11 and found.how == "measured-device"
    # in the order of the program, an op with two outputs once
    assert [(o.op, o.type, o.preferred, o.ms, o.how) for o in found.ops] == [
        ("a", "conv", "ANE", 2.5, "estimated-mlcomputeplan"),
        ("b", "split", "ANE", 5.0, "estimated-mlcomputeplan"),
    ]


@pytest.mark.parametrize("function", ["prefill", "decode"])
def test_one_of_several_functions_becomes_a_model_of_its_own(timed, function):
    run, _ = timed(function=function)
    assert run().function == function
    ((model, phone),) = Benchmarker.made
    told = model.spec.description
    assert phone is None and not told.functions and not told.defaultFunctionName
    assert list(model.spec.mlProgram.functions) == ["main"]
    assert [port.name for port in told.input] == ["x", "ids"]
    assert [state.name for state in told.state] == ["key_0"] * (function == "decode")
    assert model.options["weights_dir"] == "/m/weights" and model.options["compute_units"] == "all"


def _phone(modules, signed):
    class Iphone:
        name, udid, identifier = "iPhone", "U1", "I1"

        async def prepare_for_model_debugging(self, credentials):
            signed.append(credentials)
            return self

    remote = modules["coremltools.models.ml_program.experimental.remote_device"]
    remote.DeviceType = SimpleNamespace(IPHONE="iPhone")
    remote.AppSigningCredentials = SimpleNamespace
    remote.Device = SimpleNamespace(get_connected_devices=lambda kind: [Iphone()])


PHONE = {"udid": "U1", "team": "T", "bundle": None, "profile": None}


def test_a_phone_at_the_mac(timed):
    run, modules = timed(function="prefill", phone=PHONE)
    signed = []
    _phone(modules, signed)
    assert run().machine == "iPhone, U1" and signed[0].development_team == "T"
    assert Benchmarker.made[0][1].udid == "U1"


@pytest.mark.parametrize(("change", "status"), [({"udid": "U2"}, 5), ({}, 6)])
def test_what_a_phone_cannot_do(timed, monkeypatch, change, status):
    """Another phone than the one that is there; states, which coremltools does not hand to it."""
    function = "prefill" if change else "decode"
    run, modules = timed(function=function, phone=PHONE | change)
    _phone(modules, [])
    with pytest.raises(AssertionError, match=f"{status} == 0"):
        run()
