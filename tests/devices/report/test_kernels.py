"""The table of a preflight on the page, whichever runtime wrote it; a stranger's record too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from edgevlm.devices.report.kernels import kernels_view
from edgevlm.devices.report.recorded import Record
from edgevlm.runtimes.base import Preflight, Table

TABLE = Table(
    ("part", "nodes -> layers", "attention", "MB", "outside"),
    (("vision", "1,465 -> 47", "3 of 4", "5.11", "none"), ("7", "9 -> 2", "0 of 0", "1", "2 add")),
)
TOLD = Preflight("yes", None, "rtx, proxy sm86", "not built", TABLE, ["vision: mha"], {"cc": "8"})


def view(preflight):
    return kernels_view(SimpleNamespace(record=Record(preflight=preflight)))


def test_cells_are_the_runtimes_and_figures_stand_right():
    found = view(TOLD.as_json())
    assert (found["label"], found["note"]) == ("rtx, proxy sm86", "not built")
    assert found["odd"] == ["vision: mha"]
    assert found["table"]["headings"] == [
        ("part", ""), ("nodes → layers", "num"), ("attention", "num"), ("MB", "num"),
        ("outside", ""),
    ]  # fmt: skip
    first, second = found["table"]["rows"]
    assert first[1] == ("1,465 → 47", "num") and first[4] == ("none", "")
    assert second[0] == ("7", "")  # a name is a name


@pytest.mark.parametrize("told", [None, {"done": None, "missing": "not installed"}])
def test_without_one_there_is_nothing(told):
    assert view(told) is None


def test_one_that_is_not_done_tells_why_and_has_no_table():
    assert Preflight(None, "left out").as_json() == {"done": None, "missing": "left out"}


def test_a_record_of_before_is_told_without_its_table():
    """As compiles wrote it when its parts were read here."""
    part = {"role": "vision", "network_layers": 9, "summary": {"gemm": 24}, "expects": []}
    old = {"done": "yes", "label": "rtx", "odd": ["vision: mha 3, expected 4"], "parts": [part]}
    found = view(old)
    assert found["table"] is None and found["odd"] == old["odd"] and found["label"] == "rtx"


def test_a_table_without_rows_is_one():
    found = view({"done": "yes", "table": {"headings": ["part", "MB"], "rows": []}})
    assert [name for name, _ in found["table"]["headings"]] == ["part", "MB"]


@pytest.mark.parametrize(
    "table",
    [
        {"headings": [], "rows": []},
        {"headings": ["part"], "rows": [["vision", "1"]]},
        {"headings": ["part"], "rows": [["vision"]] * 33},
        {"headings": ["part"] * 21, "rows": []},
        {"headings": ["part"], "rows": [["v" * 401]]},
        {"headings": ["part"], "rows": [[1]]},
        {"headings": ["part"]},
    ],
)
def test_bounds_hold(table):
    with pytest.raises(ValidationError):
        Record(preflight={"done": "yes", "table": table})
