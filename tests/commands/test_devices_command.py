"""devices list and show: the data as dicts, and tables in which no claim lacks its source."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from edgevlm.commands import devices as command
from edgevlm.commands.devices import list_rows, render_device, render_rows, show
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.schema import parse_device

# Synthetic: no such device, and no such page.
BOARD = """
id = "board-8"
name = "Board 8 [rev B]"
family = "jetson"
runtime = "tensorrt"
[memory]
bandwidth = {value = 102.4, source = "https://example.org/a[1]", confidence = "A"}
[[units]]
name = "GPU"
kind = "gpu"
source = "https://example.org/b"
confidence = "C"
[units.dtypes.int8]
dense = {value = 33, source = "https://example.org/b", confidence = "C"}
[[power_modes]]
name = "15W"
watts = {value = 15, source = "https://example.org/c", confidence = "B"}
[[rails]]
name = "VDD_IN"
covers = "the whole board"
source = "https://example.org/d"
confidence = "A"
[traps.cma]
text = "the pool ends here"
value = 950
unit = "MB"
source = "https://example.org/e"
confidence = "B"
[[measured]]
what = "ViT-B/16"
value = 3.5
unit = "ms"
how = "measured-device"
method = "trtexec"
n = 200
date = 2026-01-31
tools = {tensorrt = "10.3.0"}
"""


def printed(render, *args) -> str:
    buffer = io.StringIO()
    render(*args, Console(file=buffer, width=200))
    return buffer.getvalue()


def test_rows_hold_the_identity_of_every_device():
    row = next(row for row in list_rows() if row["id"] == "host-cpu")
    assert row == {
        "id": "host-cpu",
        "name": "The CPU of this machine",
        "aliases": ["cpu", "host"],
        "family": "cpu",
        "runtime": "ort",
        "compiles": True,
    }
    assert not next(row for row in list_rows() if row["id"] == "kv260")["compiles"]
    assert json.loads(json.dumps(list_rows())) == list_rows()


def test_rows_are_printed():
    text = printed(render_rows, list_rows())
    assert "host-cpu" in text and "cpu, host" in text


def test_the_host_is_shown_with_what_was_read_now():
    shown = show("cpu")
    assert shown["id"] == "host-cpu" and shown["this_machine"]["cores"] >= 1
    assert shown["memory"] == {} and json.loads(json.dumps(shown)) == shown
    text = printed(render_device, shown)
    assert "this machine, read now" in text and "claimed" not in text and "measured" not in text


def test_a_board_shows_every_claim_with_unit_source_and_confidence(monkeypatch):
    monkeypatch.setattr(command, "find_device", lambda name: parse_device(BOARD, "board-8.toml"))
    shown = show("board-8")
    assert "this_machine" not in shown and "sram" not in shown["memory"]
    lines = printed(render_device, shown).splitlines()

    def line(*parts: str) -> str:
        return next(line for line in lines if all(part in line for part in parts))

    assert line("memory.bandwidth", "102.4", "GB/s", "A", "https://example.org/a[1]")
    assert line("units GPU: gpu, int8", "-", "C", "https://example.org/b")
    assert line("units GPU.dtypes.int8.dense", "33", "Top/s", "C", "https://example.org/b")
    assert line("power_modes 15W.watts", "15", "W", "B", "https://example.org/c")
    assert line("rails VDD_IN: the whole board", "A", "https://example.org/d")
    assert line("traps.cma: the pool ends here", "950", "MB", "https://example.org/e")
    assert line("ViT-B/16", "3.5", "ms", "200", "measured-device", "2026-01-31", "trtexec")
    assert line("name", "Board 8 [rev B]")
    claimed, measured = (
        next(i for i, text in enumerate(lines) if re.match(rf" *{title}\b", text))
        for title in ("claimed", "measured")
    )
    assert claimed < measured and "ViT-B/16" not in "\n".join(lines[claimed:measured])


def test_tables_go_to_stderr(capsys):
    render_rows(list_rows())
    render_device(show("host"))
    out, err = capsys.readouterr()
    assert out == "" and "host-cpu" in err


def test_an_unknown_device_is_a_wrong_call():
    with pytest.raises(UsageFault, match="EV301"):
        show("toaster")


def test_sources_are_named_in_rows_and_given_once():
    shown = show("jetson")
    lines = printed(render_device, shown).splitlines()
    assert shown["memory"]["dram"]["source"].startswith("https://")
    row = next(line for line in lines if "memory.dram" in line)
    assert "deep-dive" in row and "https://" not in row
    assert sum(shown["memory"]["dram"]["source"] in line for line in lines) == 1
    assert any("power modes" in line and "MAXN_SUPER" in line for line in lines)
