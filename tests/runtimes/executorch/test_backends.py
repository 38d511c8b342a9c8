"""Backends by name: for which devices, with which tools, and what is refused in which words.

Qualcomm's modules and SDK are synthetic here: that the right calls are made is all that is shown.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from micro.calls import call_here

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.recipe import Recipe, Step
from edgevlm.devices import find_device
from edgevlm.runtimes.executorch.backends import BACKENDS, find_backend
from edgevlm.runtimes.executorch.runtime import ExecutorchRuntime
from edgevlm.runtimes.executorch.sdk import QNN_COMPILES, SdkMissing

QUALCOMM = "executorch.backends.qualcomm"


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    """Synthetic: empty files where an SDK has its libraries."""
    for each in QNN_COMPILES:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    (tmp_path / "sdk.yaml").write_text("version: 2.37.0.250724\n")
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("device", "backend", "why"),
    [
        ("pixel-9", "qnn", "no Snapdragon"),
        ("exynos-2500", "qnn", "no Snapdragon"),
        ("pixel-9", "coreml", "Apple's systems alone"),
        ("snapdragon-8-elite", "coreml", "Apple's systems alone"),
        ("pixel-9", "cuda", "backends: xnnpack, vulkan, coreml, qnn"),
    ],
)
def test_devices_that_a_backend_is_not_for(device, backend, why):
    with pytest.raises(UsageFault, match=why) as caught:
        ExecutorchRuntime().aimed_at(find_device(device), backend)
    assert caught.value.code == "EV308" and "--toolchain xnnpack" in caught.value.fix


@pytest.mark.parametrize(
    ("device", "soc"),
    [
        ("snapdragon-8-elite", "SM8750"),
        ("snapdragon-8-elite-gen-5", "SM8850"),
        ("snapdragon-8-gen-2", "SM8550"),
        ("snapdragon-8-gen-3", "SM8650"),
    ],
)
def test_the_chip_is_that_of_the_device(device, soc):
    aimed = ExecutorchRuntime().aimed_at(find_device(device), "qnn")
    assert aimed.sdk == {"backend": "qnn", "soc": soc}
    assert not aimed.runs_here and "has not been run by us" in aimed.notes[0]


def test_without_an_sdk_nothing_is_begun(monkeypatch, tmp_path):
    """Three lines, before the source is read, and nothing that would load an SDK from the web."""
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    for name in [name for name in sys.modules if name.startswith(QUALCOMM)]:
        monkeypatch.delitem(sys.modules, name)
    target = ("--target", "snapdragon-8-elite", "--toolchain", "qnn", "-o", tmp_path / "x.edgevlm")
    ended = call_here("compile", "no-such-source", *target)
    assert ended.status == 1 and ended.code == "EV362"
    assert "QNN_SDK_ROOT is not set" in ended.err and "--toolchain xnnpack" in ended.err
    assert not any(name.startswith(QUALCOMM) for name in sys.modules)
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    ended = call_here("compile", "no-such-source", *target)
    assert ended.code == "EV362" and "libQnnHtp.so" in ended.err


def test_its_version_is_told(sdk):
    pytest.importorskip("executorch", reason="pip install 'edgevlm[executorch]' brings it")
    aimed = ExecutorchRuntime().aimed_at(find_device("snapdragon-8-elite"), "qnn")
    assert aimed.toolchain()["qairt"] == "2.37.0.250724"


@pytest.mark.parametrize(("backend", "why"), [("qnn", "its maker's"), ("vulkan", "unrounded")])
def test_rounded_models_are_refused_before_any_pass(backend, why):
    aimed = ExecutorchRuntime().aimed_at(find_device("snapdragon-8-elite"), backend)
    recipe = Recipe("snapdragon-8-elite", (Step("quantize-weights", {}),))
    with pytest.raises(JobFault, match=f"cannot be lowered for {backend}") as caught:
        aimed.check_recipe(recipe)
    assert caught.value.code == "EV303" and why in caught.value.why


def stubbed(monkeypatch, calls):
    """Synthetic: what ExecuTorch's documents call, as something that remembers the call."""
    schema, utils = (
        ModuleType(f"{QUALCOMM}.{n}") for n in ("serialization.qc_schema", "utils.utils")
    )
    schema.QcomChipset = SimpleNamespace(__members__={"SM8750": "chip SM8750"})

    def remembered(name):
        def call(*args, **options):
            calls.append((name, args, options))
            return name

        return call

    for name in (
        "generate_htp_compiler_spec",
        "generate_qnn_executorch_compiler_spec",
        "to_edge_transform_and_lower_to_qnn",
    ):
        setattr(utils, name, remembered(name))
    for package in ("", ".serialization", ".utils"):
        monkeypatch.setitem(sys.modules, QUALCOMM + package, ModuleType(QUALCOMM + package))
    for name in ("executorch", "executorch.backends"):
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (schema, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_the_calls_that_the_documents_name(sdk, monkeypatch):
    calls = []
    stubbed(monkeypatch, calls)
    program = SimpleNamespace(
        module=lambda check_guards: ("module", check_guards), example_inputs=(("x",), {})
    )
    lowered = find_backend("qnn").lowered
    made = lowered({"decode": program}, {"get_width": 64}, {"soc": "SM8750"})
    assert made == "to_edge_transform_and_lower_to_qnn"
    assert calls == [
        ("generate_htp_compiler_spec", (), {"use_fp16": True}),
        (
            "generate_qnn_executorch_compiler_spec",
            (),
            {"soc_model": "chip SM8750", "backend_options": "generate_htp_compiler_spec"},
        ),
        (
            "to_edge_transform_and_lower_to_qnn",
            (
                {"decode": ("module", False)},
                {"decode": ("x",)},
                {"decode": "generate_qnn_executorch_compiler_spec"},
            ),
            {"constant_methods": {"get_width": 64}, "skip_mutable_buffer": True},
        ),
    ]


def test_a_chip_that_executorch_does_not_know(sdk, monkeypatch):
    stubbed(monkeypatch, [])
    with pytest.raises(UsageFault, match="chip SM1234 for QNN") as caught:
        find_backend("qnn").lowered({}, {}, {"soc": "SM1234"})
    assert caught.value.code == "EV308"


def test_without_an_sdk_nothing_is_called(monkeypatch):
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    calls = []
    stubbed(monkeypatch, calls)
    with pytest.raises(SdkMissing):
        find_backend("qnn").lowered({}, {}, {"soc": "SM8750"})
    assert calls == []


def test_the_arguments_are_those_of_executorch():
    """Names that its functions have, read from their source: importing them is not needed."""
    spec = pytest.importorskip("importlib.util").find_spec("executorch")
    if spec is None:
        pytest.skip("pip install 'edgevlm[executorch]' brings it")
    import ast
    from pathlib import Path

    path = Path(next(iter(spec.submodule_search_locations)), "backends/qualcomm/utils/utils.py")
    functions = {
        node.name: {arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert "use_fp16" in functions["generate_htp_compiler_spec"]
    assert {"soc_model", "backend_options"} <= functions["generate_qnn_executorch_compiler_spec"]
    assert {"module", "inputs", "compiler_specs", "constant_methods", "skip_mutable_buffer"} <= (
        functions["to_edge_transform_and_lower_to_qnn"]
    )


def test_what_does_not_run_here_says_what_does():
    for backend in BACKENDS.values():
        assert backend.runs_here != bool(backend.proved_by and backend.notes)
