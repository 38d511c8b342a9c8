"""How verbs speak: tables, lines of a log, and a terminal that is drawn on."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevlm.commands import output
from edgevlm.commands.output import Speaker

PROGRAM = Path(sys.executable).with_name("edgevlm")


def said(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_numbers_stand_right_and_words_left(capsys):
    Speaker().table("t", ["part", "MB", "words"], [["a", "1.5", "x"], ["bb", "12,345.25", "yyy"]])
    lines = said(capsys).splitlines()
    assert lines[0] == "t"
    assert lines[-3:-1] == ["│ a    │       1.5 │ x     │", "│ bb   │ 12,345.25 │ yyy   │"]


def test_a_long_title_does_not_make_the_table_wide_nor_breaks(capsys):
    title = "/a/very/long/path/" + "x" * 300
    Speaker().table(title, ["a", "b"], [["1", "2"]])
    assert said(capsys).splitlines()[0] == title


def test_a_log_is_120_columns_wide_unless_told_otherwise(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    row = ["word " * 40, "word " * 40]
    Speaker().table("t", ["a", "b"], [row])
    assert max(map(len, said(capsys).splitlines())) == 120
    monkeypatch.setenv("COLUMNS", "60")
    Speaker().table("t", ["a", "b"], [row])
    assert max(map(len, said(capsys).splitlines())) == 60


@pytest.mark.parametrize("text", ["[/red]", "[bold]x[/bold]", "[link=x]", "\\[x]", "a[0]"])
def test_nothing_is_markup(capsys, text):
    speaker = Speaker()
    speaker.say(text)
    speaker.table(text, [text], [[text]])
    with speaker.stages(text) as begin, speaker.bar(text) as advance:
        begin(text)
        advance(1, 1)
    assert said(capsys).count(text) == 7


def test_control_characters_are_shown_and_not_sent(capsys):
    Speaker().say("a\x1b]0;owned\x07b\rc\u202ed")
    assert said(capsys) == "a\\x1b]0;owned\\x07b\\rc\\u202ed\n"


def test_json_never_holds_what_json_cannot_say(capsys):
    nan, inf = float("nan"), float("inf")
    Speaker(as_json=True).emit({"a": nan, "b": [inf, (1.5, -inf)], "c": {"d": "NaN"}, "e": True})
    assert json.loads(capsys.readouterr().out) == {
        "a": None, "b": [None, [1.5, None]], "c": {"d": "NaN"}, "e": True,
    }  # fmt: skip


def test_json_only_when_asked_for(capsys):
    Speaker().emit({"a": 1})
    assert capsys.readouterr().out == ""


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    moments = iter([0.0, 1.0, 16.0, 17.0, 40.0, 41.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    with Speaker().bar("eval") as advance:
        for done in range(1, 6):
            advance(done, 5)
    assert said(capsys).splitlines() == [
        "eval: 2 of 5, 16.0 s",
        "eval: 4 of 5, 40.0 s",
        "eval: 5 of 5, 41.0 s",
    ]


def test_a_job_that_never_began_shows_no_progress(capsys):
    with pytest.raises(ValueError), Speaker().bar("eval"):
        raise ValueError
    assert said(capsys) == ""


def test_quiet_says_nothing_but_errors(capsys):
    speaker = Speaker(quiet=True)
    speaker.say("x")
    speaker.table("x", ["x"], [["x"]])
    with speaker.stages("x") as begin, speaker.bar("x") as advance:
        begin("x")
        advance(1, 1)
    assert said(capsys) == ""
    speaker.fault(("error EV1: a", "  why:  b", "  next: c"), {})
    assert said(capsys) == "error EV1: a\n  why:  b\n  next: c\n"


def test_stages_tell_seconds_and_memory(capsys):
    with Speaker().stages("compile x") as begin:
        begin("one")
        begin("two")
    first, *rest = said(capsys).splitlines()
    assert first == "compile x"
    for line, name in zip(rest, ("one", "two"), strict=True):
        assert re.fullmatch(rf"  {name:<22} +\d+\.\d\d s +\d+ MB", line)


def on_a_terminal(*args: object, **env: str) -> tuple[int, str]:
    """Status and everything that appears on a terminal of 100 columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *map(str, args)], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    )  # fmt: skip
    os.close(slave)
    shown = io.BytesIO()
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not data:
            break
        shown.write(data)
    os.close(master)
    return process.wait(), shown.getvalue().decode()


def test_on_a_terminal_a_compile_turns_a_wheel_and_an_error_is_red(tmp_path, micro_folder):
    args = ("compile", micro_folder, "--target", "cpu", "-o", tmp_path / "b.edgevlm")
    status, shown = on_a_terminal(*args)
    assert status == 0 and "\x1b[2K" in shown and "\x1b[?25h" in shown  # the cursor is back
    assert re.search(r"check artifacts +\d", shown) and shown.count("read source") > 1
    status, shown = on_a_terminal(*args)
    assert status == 2 and "\x1b[1;31merror EV310" in shown
    for plain in ({"NO_COLOR": "1"}, {}):
        status, shown = on_a_terminal(*args, *(() if plain else ("--no-color",)), **plain)
        assert status == 2 and "\x1b" not in shown.split("error EV310")[1]


def test_on_a_terminal_a_bar_is_drawn_and_json_stays_json(bundle):
    args = ("eval", bundle, "--dataset", "easy-scenes", "--limit", "30")
    status, shown = on_a_terminal(*args)
    assert status == 0 and "30/30" in shown and "━" in shown and "\x1b[?25h" in shown
    status, shown = on_a_terminal(*args, "--json", "--quiet")
    assert status == 0 and json.loads(shown)["n"] == 30


def test_the_pauses_are_what_they_are_for():
    assert output.DRAW_EVERY_S < 1 < output.LOG_EVERY_S
