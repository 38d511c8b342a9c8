"""`edgevlm doctor --install`: a real environment of toy wheels, progress, JSON, refusals; and what
`edgevlm doctor` says of tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from micro.toys import put_toys, toy_tools, toy_wheels

from edgevlm.commands import doctor_checks
from edgevlm.commands.doctor_tools import tool_checks
from edgevlm.compiler.workshop.home import environment_of


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`toy` is made in here by the first test that asks; the others see it."""
    wheels = tmp_path_factory.mktemp("wheels")
    toy_wheels(wheels)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("user") / "tools"
        put_toys(patch, wheels, folder)
        yield folder


@pytest.fixture(scope="module")
def installed(home, edgevlm):
    before = {check.name: check for check in tool_checks("toy")}
    return before, edgevlm("doctor", "--install", "toy", "--json")


def test_it_is_made_and_said(installed, home):
    ended = installed[1]
    assert ended.status == 0
    report = ended.json
    assert list(report) == [
        "schema", "tool", "new", "seconds", "folder", "bytes", "python", "packages",
    ]  # fmt: skip
    assert (report["schema"], report["tool"], report["new"]) == (1, "toy", True)
    assert report["packages"]["toytool"] == "1.0"
    assert Path(report["folder"]).expanduser().parent == home
    for said in ("toy: tests", "virtual environment", "toyfirst==1.0", "import toytool", "made in"):
        assert said in ended.err


def test_a_second_call_changes_nothing(installed, edgevlm):
    again = edgevlm("doctor", "--install", "toy", "--json", "--quiet")
    assert (again.status, again.err, again.json["new"]) == (0, "", False)
    first = installed[1].json
    assert {k: v for k, v in again.json.items() if k not in ("new", "seconds")} == {
        k: v for k, v in first.items() if k not in ("new", "seconds")
    }
    assert again.json["seconds"] < 1


def test_doctor_says_where_each_tool_is(installed):
    before, after = installed[0], {check.name: check for check in tool_checks("toy")}
    assert (before["tool toy"].ok, before["tool toy"].found) == (False, "not installed")
    assert before["tool toy"].fix == "edgevlm doctor --install toy (about 40 MB)"
    assert before["tool missing"].ok is None  # needed elsewhere only
    assert (before["tool here"].ok, before["tool here"].found) == (True, "in this environment")
    assert after["tool toy"].ok is True and after["tool toy"].fix is None
    assert after["tool toy"].found.startswith("in an environment of its own: ")
    assert after["tool toy"].found.endswith(" MB")


def test_environments_of_other_pins_are_told(installed, home):
    (home / "toy-0123456789ab").mkdir()
    told = [check for check in tool_checks("") if check.name == "tools, other versions"]
    (home / "toy-0123456789ab").rmdir()
    assert [check.found for check in told] == ["toy-0123456789ab"] and told[0].ok is None
    assert told[0].fix.startswith("rm -r toy-0123456789ab in ")
    assert "tools, other versions" not in {check.name for check in tool_checks("")}


def test_a_home_folder_is_not_told(installed, monkeypatch, home):
    monkeypatch.setenv("HOME", str(home.parent))
    found = next(check.found for check in tool_checks("") if check.name == "tool toy")
    assert str(home.parent) not in found and ": ~/tools/toy-" in found


def test_a_runtime_whose_tool_is_there_lacks_no_packages(installed, monkeypatch):
    from importlib import metadata

    needs = ['toyghost==1.0; extra == "toy"', 'toyghost==1.0; extra == "missing"']
    real = metadata.metadata("edgevlm")

    class Told(dict):
        def get_all(self, name: str, default: list) -> list:
            return ["toy", "missing"] if name == "Provides-Extra" else default

    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setattr(
        metadata, "metadata", lambda name: Told({"Requires-Python": real["Requires-Python"]})
    )
    assert [check.ok for check in doctor_checks.packages("toy")] == [None]
    assert [check.ok for check in doctor_checks.packages("missing")] == [False]


def test_a_tool_that_is_none_is_a_wrong_call(edgevlm, home):
    ended = edgevlm("doctor", "--install", "toaster", "--json")
    assert (ended.status, ended.code) == (2, "EV370")
    assert "missing" in ended.json["error"]["why"]


def test_what_cannot_be_made_is_three_lines_and_leaves_nothing(edgevlm, home):
    ended = edgevlm("doctor", "--install", "missing")
    assert (ended.status, ended.code, ended.out) == (1, "EV371", "")
    assert "No matching distribution found for toyghost==9.9" in ended.err
    assert not environment_of(toy_tools()["missing"]).folder.exists()


@pytest.mark.parametrize("more", [("--device", "jetson"), ("--python", "python3")])
def test_options_of_other_machines_do_not_go_with_it(edgevlm, home, more):
    ended = edgevlm("doctor", "--install", "toy", *more)
    assert (ended.status, ended.code) == (2, "EV220")
