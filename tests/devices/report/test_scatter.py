"""Where points, ticks and labels of a plot go."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.devices.report import scatter as module
from edgevlm.devices.report.scatter import Point, scatter, ticks


def point(name, x, y, *, best=False, sure=True, half=2.0):
    return Point(name, x, y, max(0.0, y - half), min(100.0, y + half), best, sure, name)


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_ascending_and_inside(low, span):
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    assert found == sorted(set(found))
    slack = 1e-6 * (low + span)
    assert found[0] >= low - slack and found[-1] <= low + span + slack


def test_ticks_of_a_known_range():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(93, 100) == [94, 96, 98, 100]


def test_points_stand_where_their_numbers_say():
    plot = scatter([point("a", 5, 80), point("b", 10, 90)], "ms", "%")
    a, b = sorted(plot["spots"], key=lambda s: s["x"])
    zero = plot["left"]
    assert (b["x"] - zero) == pytest.approx(2 * (a["x"] - zero), abs=0.1)  # the axis begins at 0
    assert b["y"] < a["y"] and a["high"] < a["y"] < a["low"]
    assert plot["top"] <= b["high"] and a["low"] <= plot["bottom"]


def test_a_small_difference_does_not_fill_the_plot():
    plot = scatter([point("a", 5, 99.9, half=0.05), point("b", 6, 100.0, half=0.05)], "ms", "%")
    a, b = sorted(plot["spots"], key=lambda s: s["x"])
    assert a["y"] - b["y"] < 0.05 * (plot["bottom"] - plot["top"])
    assert max(float(text) for _, text in plot["y_ticks"]) == 100


def test_the_front_is_a_staircase_through_its_points():
    plot = scatter(
        [point("a", 2, 80, best=True), point("b", 4, 90, best=True), point("c", 5, 70)], "ms", "%"
    )
    a, b = sorted((s for s in plot["spots"] if s["best"]), key=lambda s: s["x"])
    assert plot["front"] == f"M{a['x']} {a['y']}L{b['x']} {a['y']}L{b['x']} {b['y']}"


def test_nothing_on_the_front_draws_no_front():
    assert scatter([point("a", 2, 80), point("b", 3, 80)], "ms", "%")["front"] == ""


def boxes(plot):
    for s in plot["spots"]:
        wide = module.LETTER * len(s["label"])
        yield s["tx"] - wide / 2, s["ty"] - 6, s["tx"] + wide / 2, s["ty"] + 6


def test_labels_do_not_lie_on_each_other_or_leave_the_plot():
    """Eight bundles in the corner where all good ones are."""
    points = [point(f"bundle-{i}", 3 + 0.1 * (i % 4), 97 + 0.3 * (i // 4)) for i in range(8)]
    plot = scatter(points, "ms", "%")
    for one, other in combinations(boxes(plot), 2):
        assert not module._meet(one, other)
    assert all(box[0] >= plot["left"] and box[2] <= module.WIDE for box in boxes(plot))


def test_a_long_name_is_cut_in_its_label_and_whole_in_its_title():
    name = "x" * 300
    (spot, _) = scatter([point(name, 1, 50), point("b", 9, 90)], "ms", "%")["spots"]
    assert len(spot["label"]) == module.LABEL and spot["title"] == name


def test_equal_points_and_a_cost_of_zero_do_no_harm():
    plot = scatter([point("a", 0, 0, half=0), point("b", 0, 0, half=0)], "J", "%")
    assert len(plot["spots"]) == 2 and plot["x_ticks"] and plot["y_ticks"]


def test_the_best_are_drawn_last():
    plot = scatter([point("a", 1, 90, best=True), point("b", 1, 90)], "ms", "%")
    assert [s["label"] for s in plot["spots"]] == ["b", "a"]
