"""docs/compare.md: its calls, run as they stand, and its example against what they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edgevlm

TEXT = (Path(edgevlm.__file__).parent / "docs" / "compare.md").read_text()
CALLS = re.findall(r"^    (edgevlm .+)$", TEXT, re.MULTILINE)
EXAMPLE = TEXT.split("```text\n")[1].split("```")[0]
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e-?\d+)?")


def shape(line: str) -> str:
    """A line without its figures, verdicts and the widths of its columns."""
    return " ".join(NUMBER.sub("#", line).split())


@pytest.fixture(scope="module")
def ended(shell, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return [shell(call, cwd=folder) for call in CALLS]


def test_the_calls_end_as_the_page_says(ended):
    assert [call.split()[1] for call in CALLS] == ["compile", "compile", "compare", "compare"]
    assert [one.status for one in ended] == [0, 0, 0, 1], [one.err for one in ended]
    assert ended[3].code == "EV342" and ": passed" in ended[3].err and ": failed" in ended[3].err


def test_what_follows_from_the_bundles_alone_is_as_the_example_has_it(ended):
    """Settings, passes, sizes and goldens, but for drift, which is the machine's as well."""
    printed = {shape(line) for line in ended[2].err.splitlines()}
    paper = EXAMPLE.split("speed, turn about")[0].splitlines()
    lines = [shape(line) for line in paper if "sha256" not in line and "dB" not in line]
    assert len(lines) > 15 and "+ keep-tokens keep=# method=fastv at=llm:#" in lines
    assert not [line for line in lines if line not in printed and "━" not in line]


def test_every_stage_and_row_of_the_example_is_there(ended):
    measured = EXAMPLE.split("speed, turn about")[1]
    cells = [line.split("│")[1].strip() for line in measured.splitlines() if "│" in line]
    assert {"first token", "end to end", "colour", "all"} <= set(cells)
    for cell in cells:
        assert f"│ {cell} " in ended[2].err
    for said in ("B loses", "significant", "right: both on", "to the first token, B is"):
        assert said in measured and said in ended[2].err
