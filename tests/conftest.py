"""What many tests need: the bundled model, a micro VLM of a few hundred weights, graphs from text.

    tiny_model, tiny_probes    the bundled model and its probes as tensors; real, 50 ms a probe
    micro_model, micro_probes  a whole VLM written by hand; 1 ms a probe
    make_micro(layers=30)      the same with other sizes, or with a vision tower (micro/model.py)
    cudart                     a libcudart that is host memory, for what builds and runs engines
    sshd, phone                a real sshd with throw-away keys; the real adb and a stand-in phone
    graph, solo, ort           ONNX text -> ir.Model -> a model of one part; outputs of ONNX Runtime

Models are shared by all tests of a session and must not be edited: clone a part first.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

# small matrices, a process a core: further threads of numpy and torch wait for each other, by a
# factor of ten
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # of the terminal that pytest-xdist sees: output is that of a pipe

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import settings

from edgevlm.compiler.beside import ProbeInput
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel, load_model
from edgevlm.compiler.workshop.home import tools_root
from edgevlm.models.answer import inputs_of
from edgevlm.models.zoo import bundled_folder


def _micro() -> ModuleType:
    """The folder micro/; under importlib mode a test file cannot import its neighbours."""
    path = Path(__file__).with_name("micro") / "__init__.py"
    spec = importlib.util.spec_from_file_location("micro", path)
    module = sys.modules["micro"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


micro_vlm, parse_graph = (getattr(_micro(), name) for name in ("micro_vlm", "parse_graph"))
from micro.adb_server import AdbServer  # noqa: E402  (the folder is importable from here on)
from micro.sshd import HOW_TO_GET_IT, Sshd, find_sshd  # noqa: E402


def run_part(part: ir.Model, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of a graph, computed by ONNX Runtime with its optimiser off."""
    names = [str(v.name) for v in part.graph.outputs]
    return dict(zip(names, open_session(part).run(names, feeds), strict=True))


def _inputs(model: ExportedModel) -> list[ProbeInput]:
    return inputs_of(model)


def pytest_configure() -> None:
    """A cache of our own; and children that can be stopped, where nohup or `&` started the run."""
    settings.register_profile("edgevlm", deadline=None)  # a busy machine is no error of ours
    settings.load_profile("edgevlm")
    # environments of tools are those of the user: they take a minute each to make
    os.environ.setdefault("EDGEVLM_TOOLS", str(tools_root()))
    os.environ["EDGEVLM_CACHE"] = tempfile.mkdtemp(prefix="edgevlm-tests-")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, own)


def pytest_collection_finish() -> None:
    _rest()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and nextitem.path != item.path:
        _rest()


def _rest() -> None:
    """What is there now, no collection looks at again: tests by the thousand, models, modules.

    Graphs are cycles, so every pass sets collections off; behind some hundred test files one took
    so long that a test of a second needed half a minute.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model() -> ExportedModel:
    return load_model(bundled_folder("easyvqa-tiny"))


@pytest.fixture(scope="session")
def tiny_probes(tiny_model: ExportedModel) -> list[ProbeInput]:
    return _inputs(tiny_model)


@pytest.fixture(scope="session")
def make_micro():
    return micro_vlm


@pytest.fixture(scope="session")
def micro_model() -> ExportedModel:
    return micro_vlm()


@pytest.fixture(scope="session")
def micro_probes(micro_model: ExportedModel) -> list[ProbeInput]:
    return _inputs(micro_model)


@pytest.fixture(scope="session")
def graph():
    return parse_graph


@pytest.fixture(scope="session")
def ort():
    return run_part


@pytest.fixture(scope="session")
def solo(micro_model: ExportedModel):
    """A graph as a model of one part, for a pass that looks at graphs only."""

    def wrap(part: ir.Model, role: str = "vision") -> ExportedModel:
        return ExportedModel(
            micro_model.contract, {role: part}, micro_model.processor, b"", micro_model.source
        )

    return wrap


@pytest.fixture(scope="session")
def cudart(tmp_path_factory):
    """Path of a libcudart that is host memory, with levers: tests/micro/fake_cudart.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: sudo apt-get install gcc")
    made = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).parent / "micro" / "fake_cudart.c"
    words = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", made, source]
    subprocess.run([compiler, *words], check=True)
    return made


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    if find_sshd() is None:
        pytest.skip(HOW_TO_GET_IT)
    home = tmp_path / "sshd"
    home.mkdir()
    with Sshd(home) as server:
        monkeypatch.setenv("PATH", server.path(os.environ["PATH"]))
        yield server


@pytest.fixture
def phone(tmp_path, monkeypatch):
    if shutil.which("adb") is None:
        pytest.skip("no adb on this machine: sudo apt-get install adb")
    home = tmp_path / "phone"
    home.mkdir()
    with AdbServer(home) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield server
