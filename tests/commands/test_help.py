"""Help: at once, complete, and ending with two real calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
import pytest

from edgevlm import __version__
from edgevlm.cli import cli

#: importing any of these before a verb runs would make `--help` slow
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "PIL", "pydantic", "rich",
         "tokenizers", "torch", "transformers")  # fmt: skip
VERBS = ("compile", "run", "eval", "profile", "inspect", "verify", "passes", "devices", "doctor")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command there is, groups included."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def examples(text: str) -> list[str]:
    """The calls that a help text ends with."""
    assert text.count("Examples:") == 1
    lines = text[text.index("Examples:") :].splitlines()[1:]
    assert all(line.startswith("    edgevlm ") for line in lines), lines
    return [line.strip() for line in lines]


def test_every_verb_of_the_issue_is_there():
    assert set(VERBS) <= set(cli.commands)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_ends_with_two_real_examples(edgevlm, words):
    ended = edgevlm(*words, "--help")
    assert ended.status == 0 and ended.err == ""
    calls = examples(ended.out)
    assert len(calls) == 2 and calls[0] != calls[1]
    assert all(call.split()[1 : 1 + len(words)] == list(words) for call in calls)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_100_columns_and_says_what_every_option_does(edgevlm, words):
    text = edgevlm(*words, "--help").out
    assert max(map(len, text.splitlines())) <= 100
    command = cli
    for word in words:
        command = command.commands[word]
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, (words, option.name)


@pytest.mark.parametrize("words", [w for w in commands() if w], ids=" ".join)
def test_every_verb_takes_json_and_quiet(edgevlm, words):
    text = edgevlm(*words, "--help").out
    assert "--json" in text and "--quiet" in text and "--no-color" in text


def test_the_list_of_verbs_is_not_cut_off(edgevlm):
    text = edgevlm("--help").out
    assert "..." not in text.split("Commands:")[1]


def test_no_verb_at_all_shows_the_help(edgevlm):
    ended = edgevlm()
    assert ended.status == 0 and ended.out == edgevlm("--help").out


def test_version(edgevlm):
    assert edgevlm("--version").out == f"edgevlm, version {__version__}\n"


@pytest.mark.parametrize("words", [("--help",), ("compile", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(process, words):
    code = (
        "import sys\n"
        f"sys.argv = {['edgevlm', *words]!r}\n"
        "from edgevlm.cli import main\n"
        "try: main()\n"
        f"finally: print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    ended = process(sys.executable, "-c", code)
    assert ended.out.splitlines()[-1] == "HEAVY []", ended


def test_a_wrong_call_imports_nothing_heavy_either(process):
    code = (
        "import sys\n"
        "sys.argv = ['edgevlm', 'compile', 'x']\n"
        "from edgevlm.cli import main\n"
        "try: main()\n"
        f"finally: print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    ended = process(sys.executable, "-c", code)
    assert ended.out == "HEAVY []\n" and ended.code == "EV001"


@pytest.mark.parametrize("group", ["passes", "devices"])
def test_a_group_alone_lists(edgevlm, group):
    alone, listed = edgevlm(group), edgevlm(group, "list")
    assert (alone.status, alone.out) == (0, "")
    assert alone.err == listed.err and len(alone.err.splitlines()) > 3
    data = edgevlm(group, "--json").json
    assert data == edgevlm(group, "list", "--json").json == edgevlm(group, "--json", "list").json
    assert data["schema"] == 1 and len(data["items"]) > 0


def test_quiet_is_handed_down_by_a_group(edgevlm):
    assert edgevlm("passes", "--quiet", "list").err == ""
    assert edgevlm("passes", "--quiet", "--json", "show", "keep-tokens").err == ""
