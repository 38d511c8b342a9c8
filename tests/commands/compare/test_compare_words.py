"""The sentences: what is sure is said with its interval, what is not with what could have been."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.commands.compare_words import accuracy_words, gate_words, p_value, speed_words
from edgevlm.models.datasets.paired import Pairs


def speed(tokens: dict | None = None, **stages: dict) -> dict:
    return {"stages": stages, "answer_tokens": tokens}


def accuracy(pairs: Pairs) -> dict:
    better = "better" if pairs.difference > 0 else "worse"
    told = pairs.told_from
    return {
        **pairs.as_json(),
        "verdict": better if pairs.significant else "none",
        "told_from": None if told is None else 100 * told,
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            (1 / 1.31, 1 / 1.36, 1 / 1.27),
            "for a picture, B is 1.31 times as fast (95 %: 1.27 to 1.36, n = 40 pairs)",
        ),
        (
            (1.2, 1.1, 1.3),
            "for a picture, B takes 1.20 times as long (95 %: 1.10 to 1.30, n = 40 pairs)",
        ),
        (
            (1.01, 0.97, 1.05),
            "for a picture, no difference can be told: B takes 1.010 times as long (95 %: 0.970 to "
            "1.050, n = 40 pairs); from about 4.0 % on it could have been",
        ),
        (
            (0.5, None, None),
            "for a picture, nothing can be told: n = 40 pairs are too few, 26 the least",
        ),
    ],
)
def test_of_speed(figures, found, said):
    assert speed_words(speed(end_to_end=figures(*found))) == [said]


def test_of_a_vlm_the_first_token_and_the_whole_answer_are_told(figures):
    fast = figures(0.5, 0.4, 0.6)
    lines = speed_words(speed({"a": 2.0, "b": 2.5}, first_token=fast, vision=fast, end_to_end=fast))
    assert [line.split(",")[0] for line in lines[:2]] == [
        "to the first token",
        "for a whole answer",
    ]
    assert lines[2].startswith("answers have 2.00 tokens in the mean from A and 2.50 from B")
    assert len(speed_words(speed({"a": 2.0, "b": 2.0}, first_token=fast))) == 1


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (Pairs(470, 20, 5, 5), ("B loses 3.00 points (95 %: 1.", "p = 0.0041", ": significant")),
        (Pairs(470, 5, 20, 5), ("B gains 3.00 points (95 %: 1.", "p = 0.0041", ": significant")),
        (Pairs(480, 8, 5, 7), ("B loses 0.60 points (95 %: between ", "no difference can be told; "
         "from 1.80 points on it could have been, with 13 rows right by one alone")),
        (Pairs(490, 1, 0, 9), ("1 row right by one alone, and six on one side are the least",)),
        (Pairs(490, 2, 2, 6), ("B is right as often as A (95 %: between ",)),
        (Pairs(480, 5, 0, 15), ("no difference can be told (the exact test is stricter",)),
    ],
)  # fmt: skip
def test_of_accuracy(pairs, said):
    line, counts = accuracy_words(accuracy(pairs))
    assert all(part in line for part in said), line
    assert counts == (
        f"right: both on {pairs.both}, A alone on {pairs.only_a}, B alone on {pairs.only_b}, "
        f"neither on {pairs.neither}"
    )


@given(*[st.integers(0, 200)] * 4)
def test_no_sentence_calls_significant_what_its_interval_doubts(both, only_a, only_b, neither):
    pairs = Pairs(both, only_a, only_b, neither + 1)
    line = accuracy_words(accuracy(pairs))[0]
    if line.endswith(": significant"):
        assert "between" not in line and "often" not in line
    else:
        assert "no difference can be told" in line


def test_of_gates():
    gate = {"of": "first_token", "margin": 5.0, "unit": "percent", "worst": 7.25, "ok": False}
    head = "gate first token, at most 5 % slower: "
    assert gate_words(gate) == f"{head}failed, the interval ends at 7.25 % slower"
    passed = {**gate, "worst": -30.0, "ok": True}
    assert gate_words(passed) == f"{head}passed, the interval ends at 30.00 % faster"
    gate = {"of": "accuracy", "margin": 0.5, "unit": "points", "worst": 0.25, "ok": True}
    head = "gate accuracy, at most 0.5 points lost: "
    assert gate_words(gate) == f"{head}passed, the interval ends at 0.25 points lost"
    none = {**gate, "worst": None, "ok": False}
    assert gate_words(none) == f"{head}failed, there is no interval"


@pytest.mark.parametrize(("p", "said"), [(1.0, "1"), (0.0123, "0.012"), (3.21e-9, "3e-09")])
def test_p_has_the_digits_that_mean_something(p, said):
    assert p_value(p) == said
