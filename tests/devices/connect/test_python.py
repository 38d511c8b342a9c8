"""Which Python of a device runs a bundle, and what is said where none does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect import python as module
from edgevlm.devices.connect.python import Wanted, check_python, find_python

NUMPY = Wanted(("numpy",), (3, 11))


def fake(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\necho \'{{"path": "{path}", "version": {version}, '
        '"packages": {"numpy": "2.0"}}\'\n'
    )
    path.chmod(0o755)
    return path


def test_the_one_that_is_named(device):
    found = check_python(device, NUMPY, sys.executable)
    assert found.path == sys.executable and found.version == sys.version_info[:3]
    assert found.packages.keys() == {"numpy"} and not found.lacks


def test_the_environment_of_edgevlm_comes_before_the_system(device, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    own = fake(tmp_path / ".edgevlm" / "bin" / "python", "[3, 12, 0]")
    assert find_python(device, ["numpy"]).path == str(own)
    own.unlink()
    assert find_python(device, ["numpy"]).path != str(own)


def test_packages_that_are_missing_are_named_with_the_call_that_brings_them(device):
    with pytest.raises(JobFault, match=r"EV433 here lacks what runs the bundle: .* no no-such-one"):
        check_python(device, Wanted(("numpy", "no-such-one"), (3, 11)), sys.executable)
    with pytest.raises(JobFault) as fault:
        check_python(device, Wanted(("no-such-one",), (3, 11)), sys.executable)
    assert "python3 -m venv ~/.edgevlm && ~/.edgevlm/bin/pip install no-such-one" in fault.value.fix


def test_where_the_systems_own_packages_are_needed_they_stay_in_sight(device):
    with pytest.raises(JobFault) as fault:
        check_python(device, Wanted(("no-such-one",), (3, 10), of_the_system=True))
    assert "python3 -m venv --system-site-packages ~/.edgevlm && " in fault.value.fix


def test_a_python_that_is_too_old(device, tmp_path):
    old = fake(tmp_path / "python", "[3, 9, 2]")
    with pytest.raises(JobFault, match=r"EV433 .*: its Python is 3\.9\.2, 3\.11 is the least"):
        check_python(device, NUMPY, str(old))
    old = fake(tmp_path / "python", "[3, 10, 12]")
    assert check_python(device, Wanted(("numpy",), (3, 10)), str(old)).version == (3, 10, 12)


def test_no_python_at_all(device, monkeypatch):
    monkeypatch.setattr(module, "OWN", "/nowhere")
    with pytest.raises(JobFault, match=r"EV433 .*: /no/python does not run there"):
        check_python(device, NUMPY, "/no/python")


@pytest.mark.parametrize(
    "said", ["", "hello", "[]", '{"path": 1}', '{"path": "x", "version": "a", "packages": {}}']
)
def test_a_program_that_is_no_python(device, tmp_path, said):
    odd = tmp_path / "odd"
    odd.write_text(f"#!/bin/sh\necho '{said}'\n")
    odd.chmod(0o755)
    assert find_python(device, ["numpy"], str(odd)) is None
