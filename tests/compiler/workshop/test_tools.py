"""tools.toml: pinned, in step with setup.cfg, and names that do not exist are told."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import ValidationError

import edgevlm
from edgevlm.compiler.errors import UsageFault
from edgevlm.compiler.workshop.tools import Tool, find_tool, tools


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(Path(edgevlm.__file__).with_name("setup.cfg"))
    return setup


def lines(setup: configparser.ConfigParser, section: str, key: str) -> set[str]:
    return {line for line in setup[section][key].splitlines() if line and line[0] != "#"}


def test_the_four_tools_are_there():
    assert list(tools()) == ["ethos", "executorch", "coreml", "coreai"]


@pytest.mark.parametrize("name", tools())
def test_all_that_is_installed_is_pinned_and_torch_comes_first_alone(name):
    tool = find_tool(name)
    for text in (*tool.first, *tool.packages):
        assert [s.operator for s in Requirement(text).specifier] == ["=="], text
    assert [Requirement(text).name for text in tool.first] == ["torch"]


@pytest.mark.parametrize("name", tools())
def test_an_extra_brings_what_makes_this_environment_do(name, setup_cfg):
    tool = find_tool(name)
    if tool.extra is None:
        assert name == "ethos"  # whose pins contradict the base install
    else:
        assert lines(setup_cfg, "options.extras_require", tool.extra) == set(tool.here)


@pytest.mark.parametrize("name", tools())
def test_what_is_installed_is_what_would_do_here(name):
    """`here` asks for nothing that the tool's own environment would not have."""
    tool = find_tool(name)
    pins = {Requirement(text).name: Requirement(text) for text in (*tool.first, *tool.packages)}
    for wanted in map(Requirement, tool.here):
        (pin,) = pins[wanted.name].specifier
        assert wanted.specifier.contains(pin.version)


def test_the_bridge_is_one_that_edgevlm_takes(setup_cfg):
    base = map(Requirement, lines(setup_cfg, "options", "install_requires"))
    ranges = {canonicalize_name(each.name): each.specifier for each in base}
    for text in ("onnx", "onnx-ir", "pydantic"):
        for tool in tools().values():
            pin = next(r for r in map(Requirement, tool.packages) if r.name == text)
            assert ranges[canonicalize_name(text)].contains(next(iter(pin.specifier)).version)


@pytest.mark.parametrize("name", tools())
def test_its_python_is_ours(name, setup_cfg):
    for version in ("3.11.2", "3.12.9"):
        assert SpecifierSet(setup_cfg["options"]["python_requires"]).contains(version)
        assert SpecifierSet(find_tool(name).python).contains(version)


def test_a_change_of_pins_python_or_machine_is_another_folder(monkeypatch):
    import platform
    import sys

    tool = find_tool("ethos")
    digests = {tool.digest(), tool.model_copy(update={"packages": ["a==1"]}).digest()}
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    digests.add(tool.digest())
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    digests.add(tool.digest())
    assert len(digests) == 4
    changed = {"mb": 1, "proof": ["x"], "purpose": "other words"}
    assert tool.model_copy(update=changed).digest() == tool.digest()


def test_a_tool_that_is_none_is_a_wrong_call():
    with pytest.raises(UsageFault, match="EV370 there is no tool called 'vela'") as told:
        find_tool("vela")
    assert all(name in told.value.why for name in tools())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("packages", ["torch>=2"]),
        ("packages", ["torch==2.*"]),
        ("packages", ["torch"]),
        ("packages", ["--index-url=https://example.org"]),
        ("name", "../x"),
        ("proof", ["os; import shutil"]),
        ("machines", ["Linux"]),
        ("more", 1),
    ],
)
def test_a_table_that_is_wrong_is_refused(field, value):
    told = find_tool("coreai").model_dump() | {field: value}
    with pytest.raises(ValidationError):
        Tool.model_validate(told)
