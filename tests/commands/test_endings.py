"""How a call ends when it does not end well: three lines, an exit status, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault

PROGRAM = Path(sys.executable).with_name("edgevlm")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("complie",), "No such command 'complie'. (Did you mean one of: 'compare', 'compile'?)"),
        (("compile", "x"), "Missing option '--target'"),
        (("compile", "x", "--target", "cpu"), "Missing option '-o' / '--out'"),
        (("run",), "Missing argument 'BUNDLE'"),
        (("profile", "b", "-n", "many"), "'many' is not a valid integer"),
        (("eval", "b"), "Missing option '--dataset'"),
        (("run", "b", "--image", "i", "--prompt", "p", "--max-new", "0"), "not in the range x>=1"),
        (("compile", "x", "--target", "cpu", "-o", "y", "--max-prompt", "0"), "not in the range"),
        (("compile", "x", "--target", "cpu", "-o", "y", "--probes", "nowhere"), "does not exist"),
        (("passes", "show"), "Missing argument 'NAME'"),
        (("passes", "burn"), "No such command 'burn'"),
        (("verify", "b", "--bogus"), "No such option '--bogus'"),
    ],
)
def test_a_wrong_call_is_three_lines_and_status_2(edgevlm, args, said):
    ended = edgevlm(*args)
    assert (ended.status, ended.code, ended.out) == (2, "EV001", "")
    assert len(ended.err.splitlines()) == 3 and said in ended.err
    assert f"next: edgevlm{' ' + args[0] if args[0] != 'complie' else ''}" in ended.err


def test_a_wrong_call_with_json_is_a_json_error(edgevlm):
    ended = edgevlm("compile", "x", "--json")
    assert (ended.status, ended.code) == (2, "EV001")
    assert ended.json == {
        "schema": 1,
        "error": {
            "code": "EV001",
            "what": "edgevlm compile: Missing option '--target'",
            "why": "the call is: edgevlm compile [OPTIONS] MODEL",
            "next": "edgevlm compile --help",
        },
    }


def test_json_behind_two_dashes_is_a_word_and_no_option(edgevlm):
    ended = edgevlm("passes", "show", "--", "--json")
    assert (ended.status, ended.code, ended.out) == (2, "EV201", "")


@pytest.fixture
def broken(monkeypatch):
    """`broken(error)`: `edgevlm passes list` fails with it."""
    from edgevlm.commands import passes

    def burst(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(passes, "list_passes", fail)

    return burst


def test_an_unexpected_error_asks_for_a_report(edgevlm, broken, monkeypatch):
    monkeypatch.delenv("EDGEVLM_DEBUG", raising=False)
    broken(ZeroDivisionError("integer\ndivision"))
    ended = edgevlm("passes", "list")
    assert (ended.status, ended.code, ended.out) == (1, "EV500", "")
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert "unexpected ZeroDivisionError in tests/commands/test_endings.py:" in lines[0]
    assert lines[1] == "  why:  integer division"
    assert "please report this" in lines[2]
    assert "EDGEVLM_DEBUG=1 edgevlm passes list" in lines[2]


def test_the_traceback_is_shown_when_asked_for(edgevlm, broken, monkeypatch):
    monkeypatch.setenv("EDGEVLM_DEBUG", "1")
    broken(ZeroDivisionError("again"))
    ended = edgevlm("passes", "list", "--json")
    assert ended.status == 1 and ended.json["error"]["code"] == "EV500"
    assert ended.err.startswith("error EV500") and "Traceback (most recent call last)" in ended.err
    assert "ZeroDivisionError: again" in ended.err


def test_an_error_that_says_nothing_is_told_too(edgevlm, broken):
    broken(AssertionError())
    ended = edgevlm("passes", "list")
    assert ended.code == "EV500" and "why:  it says no more" in ended.err


def test_a_signal_is_a_signal_even_where_a_library_makes_an_error_of_it(edgevlm, monkeypatch):
    """Numpy's import turns whatever stops it into an ImportError."""
    from edgevlm.commands import passes

    def half_an_import() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ImportError("numpy.core.multiarray failed to import") from error

    monkeypatch.setattr(passes, "list_passes", half_an_import)
    ended = edgevlm("passes", "list")
    assert (ended.status, ended.out) == (143, "")
    assert ended.err == "edgevlm: stopped by SIGTERM; nothing is left half-written\n"


def test_what_the_operating_system_refuses_is_no_bug(edgevlm, broken):
    broken(PermissionError(13, "Permission denied", "/some/where"))
    ended = edgevlm("passes", "list")
    assert (ended.status, ended.code) == (1, "EV405")
    assert "refused /some/where" in ended.err and "PermissionError: Permission denied" in ended.err


def test_no_memory_is_no_bug(edgevlm, broken):
    broken(MemoryError("Unable to allocate 40 GiB"))
    ended = edgevlm("passes", "list")
    assert (ended.status, ended.code) == (1, "EV404") and "40 GiB" in ended.err


def test_control_characters_do_not_reach_the_terminal(edgevlm, broken):
    broken(JobFault("EV999", "a\x1b[2Jb", "c\x07", "d \udcff"))
    ended = edgevlm("passes", "list")
    assert "\x1b" not in ended.err and "\x07" not in ended.err
    assert "a\\x1b[2Jb" in ended.err and "\\udcff" in ended.err


def test_names_are_never_read_as_markup(edgevlm, own_bundle):
    (own_bundle.parent / "x[").mkdir()
    odd = own_bundle.rename(own_bundle.parent / "x[" / "red].edgevlm")  # rich would see "[/red]"
    ended = edgevlm("verify", odd, "--no-run")
    assert ended.status == 0 and str(odd) in ended.err
    ended = edgevlm("eval", odd, "--dataset", "[/x]", "--split", "[/y]")
    assert (ended.status, ended.code) == (2, "EV130")


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_leaves_early_sees_no_traceback(shell, lines):
    ended = shell(f"edgevlm passes --json --quiet | head -n {lines}; exit ${{PIPESTATUS[0]}}")
    assert ended.err == ""
    assert ended.status in (0, 141)  # 0: all was written before the reader left


def into_a_closed_pipe(*args: object) -> tuple[int, bytes]:
    """Status and stderr; the reading end is closed before the process starts."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([PROGRAM, *args], stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    return done.returncode, done.stderr


def test_a_closed_pipe_ends_with_141_and_in_silence(bundle, picture):
    assert into_a_closed_pipe("passes", "--json", "--quiet") == (141, b"")
    ask = ("run", bundle, "--image", picture, "--prompt", "is it red?", "--quiet")
    assert into_a_closed_pipe(*ask) == (141, b"")


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [(("passes",), "EV405", "No space left on device"), (("passes", "show", "x"), "EV201", "")],
)
def test_a_full_disk_behind_stdout_is_told_once(args, code, why):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, *args, "--json", "--quiet"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr.startswith(f"error {code}")
    assert len(done.stderr.splitlines()) == 3 and why in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(shell, edgevlm, tmp_path, micro_folder, closed):
    """Without care, weights.bin would become file 1, and a print would end in the weights."""
    out = tmp_path / "b.edgevlm"
    ended = shell(f"edgevlm compile {micro_folder} --target cpu -o {out} {closed}")
    assert ended.status == 0
    assert edgevlm("verify", out).status == 0


def test_a_terminal_without_unicode_gets_escapes(process, bundle, picture):
    args = ("run", bundle, "--image", picture, "--prompt", "is it <s>ä?")
    ended = process(*args, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ended.code == "EV122" and "\\xe4" in ended.err


@pytest.mark.parametrize("verb", ["passes", "devices", "doctor"])
def test_json_alone_is_on_stdout_and_quiet_is_quiet(process, verb):
    ended = process(verb, "--json", "--quiet")
    assert ended.err == "" and json.loads(ended.out)["schema"] == 1
