"""The kernels of a preflight on the page, as the record has them; a stranger's record too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from edgevlm.devices.report.kernels import kernels_view
from edgevlm.devices.report.recorded import Record

PART = {
    "role": "vision",
    "network_layers": 1465,
    "engine_bytes": 5_111_556,
    "parse_s": 0.03,
    "build_s": 0.5,
    "summary": {"layers": 47, "gemm": 24, "int8_gemm": 24, "fp8_gemm": 0, "mha": 3, "mha_io": {}},
    "expects": [{"what": "mha", "wanted": 4, "found": 3, "ok": False}],
    "warnings": ["passed over"],
}


def view(preflight):
    return kernels_view(SimpleNamespace(record=Record(preflight=preflight)))


def test_a_row_a_part_and_what_is_odd():
    found = view(
        {"done": "yes", "label": "rtx, proxy sm86", "odd": ["vision: mha"], "parts": [PART]}
    )
    assert found["label"] == "rtx, proxy sm86" and found["odd"] == ["vision: mha"]
    (row,) = found["rows"]
    assert row["layers"] == "1,465 → 47" and row["narrow"] == "24 int8"
    assert row["attention"] == "3 of 4" and row["mb"] == "5.11"


@pytest.mark.parametrize("told", [None, {"done": None, "missing": "not installed"}])
def test_without_one_there_is_nothing(told):
    assert view(told) is None


def test_counts_that_are_none_are_not_shown():
    odd = PART | {"summary": {"gemm": "<b>", "mha": -1, "layers": True, "int8_gemm": 10**12}}
    (row,) = view({"done": "yes", "parts": [odd]})["rows"]
    assert (row["products"], row["narrow"], row["attention"]) == ("0", "none", "0 of 4")


def test_bounds_hold():
    with pytest.raises(ValidationError):
        Record(preflight={"done": "yes", "parts": [PART] * 33})
