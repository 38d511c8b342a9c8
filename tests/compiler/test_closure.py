"""What goes along with a program: all it imports, found without importing it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgevlm.compiler import closure as home
from edgevlm.compiler.closure import closure
from edgevlm.runtimes import RUNTIMES, find_runtime

LOADED = """import json, sys, importlib
for name in sys.argv[1:]: importlib.import_module(name)
print(json.dumps(sorted(n for n in sys.modules if n.partition(".")[0] == "edgevlm")))"""
MAINS = [
    ("edgevlm.compiler.errors",),
    ("edgevlm.runtimes.tensorrt.engines",),
    ("edgevlm.runtimes.tensorrt.on_device.build_main",),
    ("edgevlm.compiler.narrow_cache", "edgevlm.compiler.stray"),
    ("edgevlm.compiler.pass_manager",),
]


@pytest.mark.parametrize("mains", MAINS, ids=lambda mains: mains[0])
def test_python_loads_just_these(mains):
    found = closure(mains)
    run = subprocess.run(
        [sys.executable, "-c", LOADED, *mains], capture_output=True, text=True, check=True
    )
    assert set(json.loads(run.stdout)) == set(found)
    assert all(path.is_file() for path in found.values())


@pytest.mark.parametrize("name", RUNTIMES)
def test_what_goes_along_for_a_runtime_needs_nothing_that_lowers(name):
    """Where it goes there is what `runs_with` says, and neither onnx nor onnx_ir."""
    runtime = find_runtime(name)
    run = subprocess.run(
        [sys.executable, "-c", LOADED.replace('== "edgevlm"', 'in ("onnx", "onnx_ir", "torch")'),
         *closure(runtime.carried)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout) == []
    assert bool(runtime.carried) or name != "tensorrt"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """tree({file: text}) -> modules found behind edgevlm.main."""
    monkeypatch.setattr(home, "HOME", tmp_path)

    def find(files):
        for name, text in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for folder in {p.parent for p in tmp_path.rglob("*.py")} | {tmp_path}:
            (folder / "__init__.py").touch()
        return {name.removeprefix("edgevlm") for name in closure(["edgevlm.main"])} - {"", ".main"}

    return find


@pytest.mark.parametrize(
    "text",
    [
        "import edgevlm.far",
        "from edgevlm import far",
        "from edgevlm.far import thing",
        "import os, edgevlm.far as f",
        "try:\n    import edgevlm.far\nexcept ImportError:\n    pass",
        "if True:\n    from edgevlm.far import thing",
        "class A:\n    from edgevlm.far import thing",
        "from typing import TYPE_CHECKING as t\nif t:\n    pass\nelse:\n    import edgevlm.far",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import edgevlm.far",
    ],
)
def test_every_form_of_an_import_is_followed(tree, text):
    assert tree({"main": text, "far": "thing = 1"}) == {".far"}


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import edgevlm.far",
        "async def f():\n    import edgevlm.far",
        "class A:\n    def f(self):\n        from edgevlm.far import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import edgevlm.far",
        "import typing\nif typing.TYPE_CHECKING:\n    import edgevlm.far",
        "import edgevlmfar",
        "import edgevlmore.far",
        "from edgevlmore.far import thing",
        "far = 'import edgevlm.far'",
    ],
)
def test_what_is_imported_later_or_never_stays_behind(tree, text):
    assert tree({"main": text, "far": "thing = 1"}) == set()


def test_packages_above_come_along_with_what_they_import(tree):
    found = tree(
        {
            "main": "from edgevlm.a.b import c",
            "a/b": "import edgevlm.d",
            "a/__init__": "import edgevlm.e",
            "d": "import edgevlm.main",
            "e": "",
            "f": "",
        }
    )
    assert found == {".a", ".a.b", ".d", ".e"}
