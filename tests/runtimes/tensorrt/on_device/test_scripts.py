"""The two scripts in a bundle, with the files that travel and nothing else of edgevlm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgevlm

ROOT = Path(edgevlm.__file__).parent
ON_DEVICE = "runtimes/tensorrt/on_device"
#: what the package may import of edgevlm, and what is imported on the way
TRAVELS = (
    "__init__.py",
    "compiler/__init__.py",
    "compiler/errors.py",
    "compiler/generate.py",
    "compiler/promise.py",
    "runtimes/__init__.py",
    "runtimes/tensorrt/__init__.py",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / ON_DEVICE).glob("*.py")),
)
#: a script run as by hand, and where everything of edgevlm came from
SPY = """
import json, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(json.dumps(sorted(m.__file__ for n, m in sys.modules.items()
          if n.split(".")[0] == "edgevlm" and m.__file__)), file=sys.stderr)
"""


@pytest.fixture
def device(bundle, cudart, tmp_path):
    """call(script, *words): on a machine that has the bundle, numpy and TensorRT alone."""
    for name in TRAVELS:
        target = bundle / "device" / "edgevlm" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for script in (ROOT / ON_DEVICE / "scripts").glob("*.py"):
        shutil.copy(script, bundle)
    (tmp_path / "lib").mkdir()
    fake = Path(sys.modules["micro"].__file__).with_name("fake_tensorrt.py")
    shutil.copy(fake, tmp_path / "lib" / "tensorrt.py")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "EDGEVLM_CUDART": str(cudart)}

    def call(script, *words):
        call = [sys.executable, "-c", SPY, str(bundle / script), *map(str, words)]
        done = subprocess.run(
            call, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        *told, files = done.stderr.splitlines()
        return done.returncode, done.stdout, "\n".join(told), json.loads(files)

    return call


def test_both_scripts_run_from_the_bundle_alone(device, bundle):
    status, out, told, files = device("build_on_device.py")
    assert status == 0, told
    assert "vision" in out and "bundle for jetson-orin-nano-super" in out
    inside = str(bundle / "device")
    assert files and all(name.startswith(inside) for name in files)
    status, out, told, files = device("run_on_device.py", "--runs", 1, "--json", "--no-build")
    assert status == 0, told
    assert [answer["ok"] for answer in json.loads(out)["answers"]] == [True] * 3
    assert all(name.startswith(inside) for name in files)


def test_nothing_that_travels_is_written_into_the_bundle(device, bundle):
    def listing():
        return sorted(str(p) for p in bundle.rglob("*") if "__pycache__" not in str(p))

    before = listing()
    assert device("build_on_device.py")[0] == 0
    assert listing() == before
