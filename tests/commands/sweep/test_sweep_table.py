"""What a person reads: the lines of a cell, the table, and a warning where times are unsure."""

from __future__ import annotations

import pytest

from edgevlm.commands.output import Speaker
from edgevlm.commands.sweep_table import cell_line, duration, sweep_table


def told(capsys, record, *cells, measured: int = 1) -> str:
    report = {**record(*cells).as_json(), "measured": measured, "plots": [], "sweep": "out"}
    sweep_table(Speaker(), report)
    return capsys.readouterr().err


def test_the_line_of_a_cell(cell):
    assert cell_line(cell("tokens=8", x=0.5, right=90)) == (
        "90.00 % right (81.82 - 100.00), 1.00 ms to first token, 0.500 of the baseline's"
    )
    assert cell_line(cell("tokens=99", fault="EV203")) == "refused, EV203: a budget; too big"


def test_the_table_names_what_varies(capsys, cell, record):
    cells = [cell("baseline", kept=64)]
    cells += [cell(f"prune={p} quant=w8 tokens={t}") for p in ("dart", "stride") for t in (16, 8)]
    err = told(capsys, record, *cells, measured=0)
    head = next(line for line in err.splitlines() if "TTFT" in line)
    assert [w.strip() for w in head.strip("┃").split("┃")][:4] == [
        "prune", "tokens", "kept", "right % [95 %]"]  # fmt: skip
    assert "│ baseline │" in err and "quant" not in head
    assert "nothing was left to do" in err and "out: sweep.json, sweep.csv" in err


def test_refusals_with_one_reason_are_told_once(capsys, cell, record):
    err = told(capsys, record, *(cell(f"tokens={t}", fault="EV203") for t in (99, 98)))
    assert err.count("EV203") == 1 and "refused: tokens=99; tokens=98\n" in err
    assert "  why:  too big\n  next: edgevlm compile ..." in err


def test_unsure_times_are_called_so(capsys, cell, record):
    wide = [cell(f"tokens={t}") for t in (16, 8)]  # ±10 %, as the fixture makes them
    assert "no better than ±10 %" in told(capsys, record, *wide)
    sharp = [
        c.model_copy(update={"timing": c.timing.model_copy(update={"low": 0.99, "high": 1.01})})
        for c in wide
    ]
    assert "no better" not in told(capsys, record, *sharp)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said
