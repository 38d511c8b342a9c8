"""Real TensorRT-RTX where it is installed, which builds without a GPU; stand-ins that run.

rtx              the library; a test that asks for it is skipped where it is missing
built(scheme)    one transformer block built for SM86 (fp8: SM89); a second each, made once
levers           a libcudart in C that is host memory, and what it can be told
tensorrt         a module of that name, whose engines ONNX Runtime runs on that memory
bundle           a bundle of the micro model that may be changed
main(which, ..)  one of the two scripts
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from micro.jetson import draft_bundle
from micro.typed import block

from edgevlm.runtimes.tensorrt.on_device import build_main, run_main
from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.build import build_part

MICRO = Path(sys.modules["micro"].__file__).parent


@pytest.fixture(scope="session")
def rtx():
    if find_spec("tensorrt_rtx_bindings") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgevlm[tensorrt]'")
    return find_api("tensorrt_rtx_bindings")


@pytest.fixture(scope="session")
def built(rtx, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("typed"), {}

    def make(scheme=None, **options):
        key = (scheme, *sorted(options.items()))
        if key not in made:
            path = block(folder / f"{len(made)}.onnx", scheme, **options)
            gpu = "SM89" if scheme == "fp8" else "SM86"
            made[key] = build_part(path, rtx, compute_capability=gpu, workspace=1 << 30)
        return made[key]

    return make


@pytest.fixture
def levers(cudart, monkeypatch):
    """The stand-in, found as libcudart is, with everything as on a new machine."""
    monkeypatch.setenv("EDGEVLM_CUDART", str(cudart))
    library = ctypes.CDLL(str(cudart))
    library.fake_set_room.argtypes = (ctypes.c_size_t,)
    library.fake_used.restype = ctypes.c_size_t
    library.fake_set_room(4 << 30)
    library.fake_set_compute(87)
    library.fake_set_integrated(0)
    library.fake_refuse_capture(0)
    return library


@pytest.fixture
def tensorrt(levers, monkeypatch):
    """The stand-in for the module, as `import tensorrt` finds it: tests/micro/fake_tensorrt.py."""
    spec = importlib.util.spec_from_file_location("tensorrt", MICRO / "fake_tensorrt.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def micro_bundle(tmp_path_factory, micro_model, micro_probes):
    """Not to be changed; `bundle` is a copy that may be."""
    return draft_bundle(tmp_path_factory.mktemp("draft") / "micro", micro_model, micro_probes)


@pytest.fixture
def bundle(micro_bundle, tmp_path):
    return Path(shutil.copytree(micro_bundle, tmp_path / "micro"))


@pytest.fixture
def main(capsys):
    """main("build", *words) -> exit status, report or text, three lines."""

    def call(which, *words):
        status = {"build": build_main.main, "run": run_main.main}[which](list(map(str, words)))
        told = capsys.readouterr()
        out = json.loads(told.out) if "--json" in words and told.out else told.out
        return SimpleNamespace(status=status, out=out, err=told.err)

    return call
