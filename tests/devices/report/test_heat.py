"""Lines of temperatures: to scale, the hottest zones, bounded."""

from __future__ import annotations

import pytest

from edgevlm.devices.report import heat as module
from edgevlm.devices.report.heat import heat_lines
from edgevlm.devices.report.measured import Thermal


def lines(*rows):
    series = [{"at_s": t, "celsius": c, "zone": z} for t, c, z in rows]
    return heat_lines(Thermal.model_validate({"series": series}))


def places(line):
    return [tuple(map(float, p.split())) for p in line["path"][1:].split("L")]


def test_a_line_goes_where_its_numbers_say():
    (line,) = lines((0, 40, "cpu"), (5, 60, "cpu"), (10, 50, "cpu"))["lines"]
    a, b, c = places(line)
    assert (b[0] - a[0]) == pytest.approx(c[0] - b[0], abs=0.1)
    assert b[1] < c[1] < a[1] and c[1] - b[1] == pytest.approx(a[1] - c[1], abs=0.2)
    assert (line["first"], line["top"]) == ("40.0", "60.0")


def test_the_hottest_zones_are_drawn_each_with_its_own_dashes():
    rows = [(t, 30 + i, f"z{i}") for i in range(9) for t in (0, 1)]
    found = lines(*rows)
    assert [line["zone"] for line in found["lines"]] == [f"z{i}" for i in range(8, 2, -1)]
    assert len({line["dash"] for line in found["lines"]}) == module.ZONES
    assert found["left_out"] == 3


def test_very_many_samples_are_thinned():
    (line,) = lines(*[(t, 40 + t % 3, "cpu") for t in range(5000)])["lines"]
    assert 100 < len(places(line)) <= module.SAMPLES


def test_a_single_sample_is_no_line():
    assert lines((0, 40, "cpu")) is None and lines() is None
