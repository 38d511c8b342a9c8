"""The program that goes to a board with Python: it measures a bundle without onnx and our tools."""

from __future__ import annotations

import json
import subprocess
import sys

from edgevlm.commands.carry import runner
from edgevlm.commands.on_device import ORDER, RESULT

#: of edgevlm's own requirements, those that a device has not; filelock comes with torch
ABSENT = ("onnx", "onnx_ir", "onnxscript", "rich", "click", "tomli_w")
START = """
import runpy, sys
from importlib.machinery import PathFinder
sys.path += {paths!r}
class Without:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches
    def find_spec(name, path=None, target=None):
        gone = name.split(".")[0] in {absent!r}  # torch asks whether onnx is there
        return None if gone else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.argv[1:] = ["measure", {bundle!r}, {folder!r}]
runpy.run_path({program!r}, run_name="__main__")
"""


def test_requests_and_ops(bundle_of, tmp_path):
    bundle = bundle_of("w8a8")
    program = tmp_path / "run_on_device.pyz"
    program.write_bytes(runner("executorch"))
    (tmp_path / ORDER).write_text(json.dumps({"n": 2, "warmup": 1, "power": "none", "ops": True}))
    code = START.format(
        paths=[path for path in sys.path if path.endswith("site-packages")],
        absent=ABSENT,
        bundle=str(bundle.folder),
        folder=str(tmp_path),
        program=str(program),
    )
    # -P: not the folder of the tests, whose edgevlm would be found first; -S: no .pth files
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / RESULT).read_text())
    assert "error" not in result, result
    assert result["n"] == 2 and result["stages"]["prefill"]["how"] == "measured-device"
    assert {row["how"] for row in result["layers"]} == {"measured-device"}
    assert {"n4", "n33"} <= {row["node"] for row in result["layers"] if row["role"] == "decode"}
