"""Which Python has a tool: this one, the tool's own, or none and how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from micro.toys import toy_tools

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.workshop.home import environment_of, has_environment
from edgevlm.compiler.workshop.interpreter import interpreter_for, lacking_here


def test_this_one_where_it_has_all(toys):
    found = interpreter_for("here")
    assert found.own and found.python == Path(sys.executable)
    assert found.argv == [sys.executable, "-P"] and found.environ == dict(os.environ)


def test_the_tools_own_where_this_one_lacks_something(made_toy, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = interpreter_for("toy")
    assert not found.own and found.python.is_relative_to(made_toy)
    assert found.argv[1:] == ["-I"] and "PYTHONPATH" not in found.environ


def test_neither_is_an_error_that_names_the_ways(toys, monkeypatch):
    with pytest.raises(JobFault) as told:
        interpreter_for("toy")
    assert told.value.code == "EV302" and told.value.fix == "edgevlm doctor --install toy"
    assert "lacks toytool==1.0" in told.value.why
    here = toy_tools()["here"].model_copy(update={"here": ["numpy>=99"]})
    monkeypatch.setattr("edgevlm.compiler.workshop.tools.tools", lambda: {"here": here})
    with pytest.raises(JobFault) as told:
        interpreter_for("here")
    assert told.value.fix.endswith("--install here, or pip install 'edgevlm[data]'")


def test_a_name_that_is_none_is_a_wrong_call(toys):
    with pytest.raises(UsageFault, match="EV370"):
        interpreter_for("toyland")


@pytest.mark.parametrize(
    ("here", "proof", "lacking"),
    [
        (["numpy>=1"], ["numpy.linalg"], []),
        (["numpy>=1", "numpy<1"], ["numpy"], ["numpy<1"]),
        (["toyghost"], ["numpy"], ["toyghost"]),
        (["numpy>=1"], ["numpy", "toyghost.inner"], ["toyghost"]),
    ],
)
def test_packages_and_modules_are_asked_for_without_importing(here, proof, lacking):
    tool = toy_tools()["toy"].model_copy(update={"here": here, "proof": proof})
    assert lacking_here(tool) == lacking


def test_a_finder_that_refuses_is_a_module_that_is_lacking(monkeypatch):
    class Refuses:
        def find_spec(self, name, path=None, target=None):
            if name == "toyghost":
                raise ModuleNotFoundError(name)

    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    tool = toy_tools()["here"].model_copy(update={"proof": ["toyghost.inner"]})
    assert lacking_here(tool) == ["toyghost"]


def test_vendor_packages_are_not_imported_to_find_out():
    code = (
        "import sys\n"
        "from edgevlm.compiler.workshop.tools import tools\n"
        "from edgevlm.compiler.workshop.interpreter import lacking_here\n"
        "for tool in tools().values(): lacking_here(tool)\n"
        "print([m for m in ('torch', 'executorch', 'coremltools', 'coreai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bytes": 1}', "null"])
def test_a_stamp_that_is_no_stamp_is_none(toys, text):
    place = environment_of(toy_tools()["toy"])
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to(sys.executable)
    place.stamp.write_text(text)
    assert place.ready() is None and not has_environment("toy")


def test_an_environment_whose_python_is_gone_is_none(toys):
    """As when the system's Python was upgraded: the link leads nowhere."""
    place = environment_of(toy_tools()["toy"])
    place.python.parent.mkdir(parents=True)
    place.stamp.write_text('{"bytes": 1, "packages": {}}')
    place.python.symlink_to("/nowhere/python3.11")
    assert place.ready() is None
    place.python.unlink()
    place.python.symlink_to(sys.executable)
    assert place.ready() == {"bytes": 1, "packages": {}}
