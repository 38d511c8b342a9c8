"""docs/errors.md against the source: every code is documented, once, with one meaning."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

import edgevlm

ROOT = Path(edgevlm.__file__).parent
#: folders of the package; not tests, tools or environments
PACKAGE = ("commands", "compiler", "devices", "models", "passes", "runtimes")
CODE = re.compile(r"\bEV\d{3}\b")
FAULTS = {"JobFault": "1", "UsageFault": "2", "SdkMissing": "1"}
ROW = re.compile(r"\| (EV\d{3}) \| ([12](?:, 2)?) \| (.+?) \| ((?:`[\w/.]+` ?)+)\|")


def sources() -> list[Path]:
    return [
        ROOT / "cli.py",
        *(p for folder in PACKAGE for p in sorted((ROOT / folder).rglob("*.py"))),
    ]


@functools.cache
def raised() -> dict[str, dict[str, set[str]]]:
    """code -> module -> exit statuses it is raised with there."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", None)
            if name in FAULTS:
                code = node.args[0] if node.args else None
                assert isinstance(code, ast.Constant), f"{path}:{node.lineno} hides its code"
                found[code.value][str(path.relative_to(ROOT))].add(FAULTS[name])
    return found


@functools.cache
def documented() -> dict[str, tuple[set[str], str, set[str]]]:
    """code -> (exit statuses, meaning, modules)."""
    rows = {}
    for line in (ROOT / "docs" / "errors.md").read_text().splitlines():
        if line.startswith("| EV"):
            row = ROW.fullmatch(line)
            assert row, f"not a row of code, status, meaning, modules: {line}"
            assert row[1] not in rows, f"{row[1]} has two meanings"
            rows[row[1]] = (set(row[2].split(", ")), row[3], set(row[4].replace("`", "").split()))
    return rows


def test_the_gathering_finds_what_is_known_to_be_there():
    assert len(raised()) > 50 and raised()["EV310"]["compiler/atomic.py"] == {"2"}


@pytest.mark.parametrize("code", sorted(raised().keys() | documented().keys()))
def test_a_code_is_documented_where_it_is_raised(code):
    """A module that is not in the row may mean something else by it: read the row, then add it."""
    assert code in documented(), "add a row to docs/errors.md"
    assert code in raised(), "no longer raised: drop the row"
    statuses, meaning, modules = documented()[code]
    assert modules == set(raised()[code])
    assert statuses == set().union(*raised()[code].values())
    assert len(meaning) > 10


def test_no_two_codes_mean_the_same():
    meanings = [meaning for _, meaning, _ in documented().values()]
    assert len(set(meanings)) == len(meanings)


def test_the_rows_are_in_order_and_in_a_known_hundred():
    codes = list(documented())
    assert codes == sorted(codes) and {code[2] for code in codes} == set("012345")


def test_every_code_that_a_comment_mentions_exists():
    for path in sources():
        for code in CODE.findall(path.read_text()):
            assert code in documented(), f"{path.relative_to(ROOT)} mentions {code}"


def test_every_code_that_a_document_mentions_exists():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for code in CODE.findall(path.read_text()):
            assert code in documented(), f"{path.relative_to(ROOT)} mentions {code}"


def test_the_example_at_the_top_is_what_is_told(edgevlm, tmp_path):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm("compile", "easyvqa-tiny", "--target", "cpu", "--tokens", "99", "-o", out)
    told = "\n".join(f"    {line}" for line in ended.err.splitlines()[-3:])
    assert told in (ROOT / "docs" / "errors.md").read_text()
