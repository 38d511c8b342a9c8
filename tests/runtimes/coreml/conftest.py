"""Packages that coremltools emits, executed by our evaluator and compared with numpy and torch.

tools                       coremltools, imported quietly; tests are skipped without it
emit(build, feeds, ...)     a program built with mb.* -> the .mlpackage that was saved
convert(module, args, ...)  a torch module, exported and converted -> the same
table                       cases_*.py: op -> rows; `case` is (op, row, type), a test each
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import sys
import warnings
from pathlib import Path

import pytest


def _load(name: str):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"coreml_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load("case_forms")
CASES = {}
for part in ("numbers", "layout", "places", "sums", "windows", "resize", "weights"):
    CASES |= _load(f"cases_{part}").CASES
ROWS = [
    (f"{op}-{i}-{kind.__name__}", (op, row, kind))
    for op, rows in CASES.items()
    for i, row in enumerate(rows)
    for kind in row.types
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", [case for _, case in ROWS], ids=[name for name, _ in ROWS])


@pytest.fixture(scope="session")
def table():
    return CASES


@pytest.fixture(scope="session")
def tools():
    pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
    pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")
    from edgevlm.runtimes.coreml.package import coremltools

    found = coremltools()
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    # a conversion collects garbage twice, among all modules: 0.3 s of what takes 0.02 s
    gc.freeze()
    return found


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A model of coremltools as a folder of its own."""
    folder, count = tmp_path_factory.mktemp("packages"), iter(range(10**6))

    def save(model, name: str = "") -> Path:
        path = folder / f"{name}{next(count)}.mlpackage"
        model.save(str(path))
        return path

    return save


@pytest.fixture(scope="session")
def emit(tools, saved):
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Program, types

    kinds = {"f4": types.fp32, "f2": types.fp16, "i4": types.int32}
    plain = (types.fp32, types.fp16, types.int32)

    def make(build, feeds, ios: int = 18, states: dict[str, tuple] | None = None) -> Path:
        target = getattr(tools.target, f"iOS{ios}")
        inputs = {n: mb.TensorSpec(a.shape, kinds[a.dtype.str[1:]]) for n, a in feeds.items()}
        kept = {n: mb.StateTensorSpec(s, types.fp16) for n, s in (states or {}).items()}
        with Function(inputs | kept, target) as main:
            made = build(mb, **main.inputs)
            made = made if isinstance(made, (tuple, list)) else (made,)
            # other types than these are not for outputs
            outside = [v if v.dtype in plain else mb.cast(x=v, dtype="int32") for v in made]
            main.set_outputs([mb.identity(x=v, name=f"out{i}") for i, v in enumerate(outside)])
        program = Program()
        program.add_function("main", main)
        return saved(
            tools.convert(
                program,
                convert_to="mlprogram",
                # the program as it was built, but for what lowers states
                pass_pipeline=None if states else tools.PassPipeline.EMPTY,
                minimum_deployment_target=target,
                compute_precision=tools.precision.FLOAT32,
                skip_model_load=True,
            )
        )

    return make


@pytest.fixture(scope="session")
def convert(tools, saved):
    import torch

    def make(module, args, precision: str = "FLOAT16", name: str = "", **options) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module.eval().requires_grad_(False), args)
            model = tools.convert(
                exported.run_decompositions({}),
                minimum_deployment_target=tools.target.iOS18,
                compute_precision=getattr(tools.precision, precision),
                skip_model_load=True,
                **options,
            )
        return saved(model, name)

    return make
