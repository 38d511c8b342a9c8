"""The package: reported as missing in three lines, and imported without its noise."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import edgevlm
from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml import package

QUIET = """
import logging
from edgevlm.runtimes.coreml.package import coremltools
before = logging.root.manager.disable
assert coremltools().__name__ == "coremltools" and coremltools() is coremltools()
assert logging.root.manager.disable == before
"""
LIGHT = """
import sys
import edgevlm.runtimes.coreml.package, edgevlm.runtimes.coreml.mlpackage
import edgevlm.runtimes.coreml.mil_functions, edgevlm.runtimes.coreml.lint
import edgevlm.runtimes.coreml.compute_plan, edgevlm.runtimes.coreml.benchmark
import edgevlm.runtimes.coreml.xctrace
heavy = {"torch", "coremltools", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""


def ran(script: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_imported_without_a_word():
    pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")
    done = ran(QUIET)
    assert (done.stdout, done.stderr) == ("", "")


def test_lint_and_drivers_need_neither_torch_nor_coremltools():
    ran(LIGHT)


@pytest.fixture
def fresh():
    package.coremltools.cache_clear()
    yield
    package.coremltools.cache_clear()


def refused() -> JobFault:
    with pytest.raises(JobFault, match="EV302 runtime coreml lacks the package") as caught:
        package.coremltools()
    assert "pip install 'edgevlm[coreml]'" in caught.value.fix and caught.value.exit_status == 1
    return caught.value


def test_a_package_that_is_missing_is_told(fresh, monkeypatch):
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", gone)
    assert "not installed" in refused().why


def test_a_package_that_does_not_load_is_told(fresh, monkeypatch):
    monkeypatch.setattr(package, "version", lambda name: "9.0")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert "cannot be imported" in refused().why


@pytest.mark.parametrize("found", ["7.2", "8.3.0"])
def test_an_old_package_is_refused(fresh, monkeypatch, found):
    monkeypatch.setattr(package, "version", lambda name: found)
    assert found in refused().why


def test_the_extra_brings_what_is_asked_for():
    config = ConfigParser()
    config.read(Path(edgevlm.__file__).parent / "setup.cfg")
    wanted = config["options.extras_require"]["coreml"].split()
    coreml = next(r for r in map(Requirement, wanted) if r.name == "coremltools")
    assert coreml.specifier == SpecifierSet(f"=={package.OLDEST}")
    assert any(Requirement(r).name == "torch" for r in wanted)
