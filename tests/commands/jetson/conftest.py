"""Bundles for NVIDIA's devices, and a desktop card that is a stand-in.

compiled(target, ...)    a bundle of the micro VLM; made once each
jetson                   one for the default Jetson; shared, not to be edited
card                     this machine has TensorRT and a card of that compute capability
far_card                 the same of the machine behind `sshd`
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of

MICRO = Path(sys.modules["micro"].__file__).parent


@pytest.fixture(scope="session")
def compiled(tmp_path_factory, micro_folder):
    made: dict[object, Path] = {}

    def make(target: str = "jetson", **options: object) -> Path:
        key = target, *sorted(options.items())
        if key not in made:
            out = tmp_path_factory.mktemp("jetson") / "j.edgevlm"
            options.setdefault("preflight", "none")
            compile_model(str(micro_folder), options_of(target, out, **options))
            made[key] = out
        return made[key]

    return make


@pytest.fixture(scope="session")
def jetson(compiled):
    return compiled()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """A folder whose `import tensorrt` is the stand-in."""
    folder = tmp_path_factory.mktemp("stand-in")
    shutil.copy(MICRO / "fake_tensorrt.py", folder / "tensorrt.py")
    return folder


@pytest.fixture
def card(cudart, stand_in, monkeypatch):
    def capability(number: int) -> None:
        monkeypatch.setenv("EDGEVLM_CUDART", str(cudart))
        monkeypatch.setenv("FAKE_COMPUTE", str(number))
        monkeypatch.syspath_prepend(str(stand_in))
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    yield capability
    sys.modules.pop("tensorrt", None)


@pytest.fixture
def far_card(sshd, cudart, stand_in):
    def capability(number: int) -> None:
        told = {"PYTHONPATH": stand_in, "EDGEVLM_CUDART": cudart, "FAKE_COMPUTE": number}
        config = sshd.folder / "config"
        words = " ".join(f"{name}={value}" for name, value in told.items())
        config.write_text(config.read_text().replace("SetEnv ", f"SetEnv {words} "))
        sshd.restart()

    return capability
