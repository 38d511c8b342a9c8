"""A gate is passed where the whole interval is within the margin, and never by measuring little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.commands.compare_gates import drop_gate, speed_gates
from edgevlm.models.datasets.paired import Pairs

margins = st.floats(0, 50)


def accuracy(pairs: Pairs) -> dict:
    return {**pairs.as_json(), "dataset": "scenes"}


@given(st.floats(0.5, 1.5), st.floats(1.0, 1.4), st.floats(1.0, 1.4), margins)
def test_a_gate_of_speed_opens_where_the_far_end_is_within(figures, ratio, down, up, percent):
    found = figures(ratio, ratio / down, ratio * up)
    (gate,) = speed_gates({"stages": {"end_to_end": found}}, percent)
    assert gate["ok"] == (found["high"] <= 1 + percent / 100) == (gate["fault"] is None)
    assert gate["worst"] == pytest.approx(100 * (found["high"] - 1))
    if not gate["ok"]:
        surely = found["low"] > 1 + percent / 100
        assert gate["fault"]["what"].startswith("B is more than" if surely else "B is not shown")


@given(*[st.integers(0, 80)] * 4, margins)
def test_a_gate_of_accuracy_opens_where_the_far_end_is_within(both, only_a, only_b, other, points):
    pairs = Pairs(both, only_a, only_b, other + 1)
    gate = drop_gate(accuracy(pairs), points)
    low, high = pairs.interval
    assert gate["ok"] == (-100 * low <= points) == (gate["fault"] is None)
    if not gate["ok"]:
        surely = -100 * high > points
        assert gate["fault"]["what"].startswith(f"B {'loses' if surely else 'is not shown'}")


def test_what_was_measured_too_little_is_not_let_through(figures):
    """Equal on both sides, and the interval wider than the margin."""
    (gate,) = speed_gates({"stages": {"end_to_end": figures(1.0, 0.9, 1.11)}}, 5.0)
    assert not gate["ok"] and gate["fault"]["code"] == "EV341"
    assert "-n" in gate["fault"]["next"]
    (gate,) = speed_gates({"stages": {"end_to_end": figures(0.5, None, None)}}, 5.0)
    assert not gate["ok"] and gate["worst"] is None
    few = drop_gate(accuracy(Pairs(20, 0, 0, 0)), 1.0)
    assert not few["ok"] and few["fault"]["code"] == "EV342" and "--limit" in few["fault"]["next"]
    assert drop_gate(accuracy(Pairs(2000, 0, 0, 0)), 1.0)["ok"]


def test_the_first_token_and_the_whole_answer_are_both_promised(figures):
    fast, slow = figures(0.8, 0.7, 0.9), figures(1.3, 1.2, 1.4)
    gates = speed_gates({"stages": {"first_token": fast, "vision": slow, "end_to_end": slow}}, 5.0)
    assert [(gate["of"], gate["ok"]) for gate in gates] == [
        ("first_token", True),
        ("end_to_end", False),
    ]
