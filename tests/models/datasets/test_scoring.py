"""Answers match as people would say; the interval is Wilson's and holds the point."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.models.datasets.scoring import Score, Tally, exact_match


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        (" YES \n", "yes"),
        ("yes .", "Yes"),
        ("dark  blue", "Dark blue"),
        ("straße", "STRASSE"),
        ("3.5", "3.5"),
        ("", ""),
    ],
)
def test_the_same_answer(prediction, answer):
    assert exact_match(prediction, answer) and exact_match(answer, prediction)


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("no", "yes"),
        ("yes..", "yes"),
        ("yes it is", "yes"),
        ("", "yes"),
        ("3.5", "35"),
        ("darkblue", "dark blue"),
        (".yes", "yes"),
    ],
)
def test_another_answer(prediction, answer):
    assert not exact_match(prediction, answer)


@given(st.text(max_size=20))
def test_an_answer_matches_itself_however_spaced(answer):
    assert exact_match(f"  {answer}\n", answer)


def test_published_intervals():
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3, to four digits.
    for correct, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert Score(n, correct).interval == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_interval_holds_the_point(counts):
    score = Score(*counts)
    low, high = score.interval
    assert 0 <= low <= score.accuracy <= high <= 1 and low < high
    mirrored = Score(score.n, score.n - score.correct).interval
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_more_answers_narrow_the_interval(counts):
    n, correct = counts
    (low, high), (lower, higher) = Score(10 * n, 10 * correct).interval, Score(n, correct).interval
    assert high - low < higher - lower


def test_nothing_asked():
    score = Tally().overall
    assert score.n == 0 and math.isnan(score.accuracy) and score.interval == (0, 1)
    assert json.loads(json.dumps(Tally().as_json(), allow_nan=False))["overall"]["accuracy"] is None


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from("abc"))))
def test_kinds_add_up_to_the_whole(answers):
    tally = Tally()
    right = [tally.add("Yes.", answer, kind) for answer, kind in answers]
    assert tally.overall == Score(len(answers), sum(right))
    assert sum(s.n for s in tally.by_kind.values()) == len(answers)
    assert sum(s.correct for s in tally.by_kind.values()) == sum(right)
    assert list(tally.by_kind) == sorted({kind for _, kind in answers})


def test_by_kind():
    tally = Tally()
    assert tally.add("Red", "red", "colour") and not tally.add("no", "yes", "yes-no")
    assert tally.add("yes", "yes", "yes-no")
    assert tally.by_kind == {"colour": Score(1, 1), "yes-no": Score(2, 1)}
    assert tally.overall.accuracy == pytest.approx(2 / 3)
    assert tally.as_json()["kinds"]["yes-no"]["accuracy"] == 0.5
