"""What travels runs on the Python of JetPack 5 and 6, and needs nothing that is not there."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import edgevlm
from edgevlm.commands.carry import modules
from edgevlm.compiler.closure import closure
from edgevlm.runtimes.tensorrt.on_device.own_picture import CARRIED

ROOT = Path(edgevlm.__file__).parent
HERE = ROOT / "runtimes" / "tensorrt" / "on_device"
PREFIX = "edgevlm.runtimes.tensorrt.on_device"
OTHERS = ("compiler/generate.py", "compiler/promise.py", "compiler/errors.py")
ON_THE_WAY = ("__init__.py", "compiler/__init__.py", "runtimes/__init__.py")
FILES = sorted(
    [*HERE.rglob("*.py"), HERE.parent / "__init__.py", *(ROOT / n for n in OTHERS + ON_THE_WAY)]
)
ALLOWED = {"numpy", "edgevlm"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_its_grammar_is_that_of_3_8(path):
    ast.parse(path.read_text(), feature_version=(3, 8))


def newer(*paths):
    """What vermin says of files that need more than Python 3.8; empty if none does."""
    call = [sys.executable, "-c", "import vermin; vermin.main()", "--no-tips", "-vv", "-t=3.8-"]
    done = subprocess.run([*call, *map(str, paths)], capture_output=True, text=True)
    assert "Minimum required versions" in done.stdout, done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.fixture(scope="session")
def vermin():
    if find_spec("vermin") is None:
        pytest.skip("vermin is not installed: pip install 'edgevlm[dev]'")


def test_it_calls_nothing_newer_than_3_8(vermin):
    assert newer(*FILES) == ""


@pytest.mark.parametrize(
    "line", ["a = 'x'.removeprefix('y')", "a = list[int]()", "a = {} | {}", "match a:\n case 1: 2"]
)
def test_the_test_sees_what_is_newer(vermin, line, tmp_path):
    (tmp_path / "new.py").write_text(line + "\n")
    assert newer(tmp_path / "new.py")


def imported(path):
    """Modules that a file imports when it runs: not those for type checkers."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_it_imports_what_travels_numpy_and_the_standard_library(path):
    mine = {f"edgevlm.{name[:-3].replace('/', '.')}" for name in OTHERS}
    if path.name == "own_picture.py":  # within a function that says what they need
        mine |= set(CARRIED)
    for module in imported(path):
        first = module.split(".")[0]
        assert first in ALLOWED or first in sys.stdlib_module_names, module
        assert first != "edgevlm" or module in mine or module.startswith(PREFIX), module


def test_what_a_picture_of_ones_own_takes_along_runs_on_python_3_10(vermin):
    """As all that goes to a device does: the Python of JetPack 6."""
    call = [sys.executable, "-c", "import vermin; vermin.main()", "--no-tips", "-t=3.10-"]
    mains = [*CARRIED, *modules("tensorrt")]
    done = subprocess.run([*call, *map(str, closure(mains).values())], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
