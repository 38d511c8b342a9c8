"""Real TensorRT-RTX where it is installed: it builds engines on a machine without a GPU.

rtx            the library; a test that asks for it is skipped where it is missing
built(scheme)  one transformer block built for SM86 (fp8: SM89); a second each, made once
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from micro.typed import block

from edgevlm.runtimes.tensorrt.on_device.api import find_api
from edgevlm.runtimes.tensorrt.on_device.build import build_part


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
