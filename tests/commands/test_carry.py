"""The program that goes to a device: it has what it needs, and nothing that needs onnx."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO

import pytest

from edgevlm.commands.carry import modules, runner
from edgevlm.commands.on_device import ORDER, PROGRESS, RESULT
from edgevlm.runtimes import RUNTIMES, find_runtime

BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
#: of edgevlm's own requirements, those that a device has not
ABSENT = ("onnx", "onnx_ir", "onnxscript", "filelock", "rich", "click", "tomli_w", "torch")


@pytest.fixture
def run_there(tmp_path):
    """The zip in a process of its own, in which the packages of a host cannot be imported."""

    def run(bundle, order, runtime="ort"):
        program = tmp_path / "run_on_device.pyz"
        program.write_bytes(runner(runtime))
        (tmp_path / ORDER).write_text(json.dumps(order))
        code = BLOCK.format(absent=ABSENT) + (
            f"import runpy; sys.argv[1:] = {['measure', str(bundle), str(tmp_path)]!r}\n"
            f"runpy.run_path({str(program)!r}, run_name='__main__')\n"
        )
        # -P: not the folder of the tests, whose edgevlm would be found first
        done = subprocess.run(
            [sys.executable, "-P", "-S", "-c", _paths() + code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / RESULT).read_text())

    return run


def _paths() -> str:
    """Packages that pip installed, without the .pth files that would bring edgevlm itself."""
    found = [path for path in sys.path if path.endswith("site-packages")]
    return f"import sys; sys.path += {found!r}\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_goes_along_is_small_and_has_no_compiler_in_it(runtime):
    names = modules(runtime)
    assert "edgevlm.commands.on_device" in names and len(runner(runtime)) < 400_000
    assert not {
        name for name in names if name.startswith(("edgevlm.passes", "edgevlm.compiler.axes"))
    }
    assert not {name for name in names if ".data" in name or name == "edgevlm.cli"}


def test_the_same_bytes_each_time():
    first = runner("ort")
    runner.cache_clear()
    assert runner("ort") == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_bundle_is_measured_without_the_compiler(run_there, micro_bundle, tmp_path):
    result = run_there(micro_bundle, {"n": 3, "warmup": 1, "ops": True})
    assert result["n"] == 3 and result["stages"]["vision"]["how"] == "measured-device"
    assert result["tools"]["edgevlm"] and result["tools"]["onnxruntime"]
    assert {row["how"] for row in result["ops"]} == {"measured-device"}
    lines = (tmp_path / PROGRESS).read_text().splitlines()
    assert json.loads(lines[-1]) == {"event": "progress", "done": 4, "total": 4}


def test_a_classifier_too(run_there, shade_bundle):
    assert run_there(shade_bundle, {"n": 2})["stages"].keys() == {
        "preprocess",
        "vision",
        "end_to_end",
    }


def test_openvino_too(run_there, edgevlm, micro_folder, tmp_path):
    pytest.importorskip("openvino", reason="needs: pip install 'edgevlm[openvino]'")
    bundle = tmp_path / "o.edgevlm"
    edgevlm("compile", micro_folder, "--target", "host-openvino", "-o", bundle)
    assert run_there(bundle, {"n": 2}, "openvino")["n"] == 2


def test_an_error_comes_back_as_one(run_there, micro_bundle, tmp_path):
    broken = shutil.copytree(micro_bundle, tmp_path / "broken.edgevlm")
    (broken / "ort" / "vision.onnx").unlink()
    fault = run_there(broken, {"n": 2})["error"]
    assert fault["code"] == "EV330" and fault.keys() == {"code", "what", "why", "next"}


WITHOUT_PYTHON = {"ethos"}


@pytest.mark.parametrize("runtime", sorted(set(RUNTIMES) - WITHOUT_PYTHON))
def test_packages_that_are_asked_for_are_those_that_it_imports(runtime, run_there, micro_bundle):
    """Named as pip knows them; what is imported and not named would fail on the device."""
    import ast

    pip_names = {"PIL": "pillow", "coreai": "coreai-torch"}  # that brings the coreai-core it wants
    imported = set()
    for path in modules(runtime).values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {each.name.split(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    outside = {
        pip_names.get(name, name) for name in imported - sys.stdlib_module_names - {"edgevlm"}
    }
    lazily = {"onnx_ir", "pynvml", "onnxruntime"} - set(find_runtime(runtime).runs_with)
    assert outside - lazily == set(find_runtime(runtime).runs_with)
