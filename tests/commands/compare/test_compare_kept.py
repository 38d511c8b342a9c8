"""What was measured before: only the same questions, the newest, and no claim on other hours."""

from __future__ import annotations

import pytest

from edgevlm.commands.compare_kept import kept_evals, kept_profiles
from edgevlm.commands.kept import keep
from edgevlm.compiler.bundle import open_bundle
from edgevlm.devices.host import describe_host
from edgevlm.models.datasets.paired import unpaired
from edgevlm.models.datasets.scoring import Score

EVAL = {
    "schema": 1,
    "dataset": "scenes",
    "split": "test",
    "n": 200,
    "metric": "exact match of the greedy answer",
    "how": "measured-host",
    "overall": {"n": 200, "correct": 180, "low": 0.8, "high": 0.9, "accuracy": 0.9},
}
PROFILE = {
    "schema": 1,
    "n": 10,
    "fps": 30.0,
    "ttft_ms": 9.0,
    "tokens_per_s": 80.0,
    "answers_per_s": 7.0,
    "host": {"cpu_model": "a board", "architecture": "aarch64", "cores": 6},
    "device": {"reached": "ssh", "cuts": 0, "clock": None},
    "stages": {"vision": {"p50_ms": 3.0, "how": "measured-device"}},
}
HERE = describe_host()


@pytest.fixture
def pair(cache, micro_bundle, shade_bundle):
    """Any two bundles: what is kept goes by digest alone."""
    return open_bundle(micro_bundle), open_bundle(shade_bundle)


def correct(count: int) -> dict:
    return {"overall": {"n": 200, "correct": count}}


def test_nothing_was_measured(pair):
    assert kept_evals(*pair) == [] and kept_profiles(*pair, HERE) == []


def test_one_side_alone_is_no_comparison(pair):
    keep("eval", pair[0], EVAL)
    keep("profile", pair[1], PROFILE)
    assert kept_evals(*pair) == [] and kept_profiles(*pair, HERE) == []


def test_the_newest_of_both_are_compared_unpaired(pair):
    a, b = pair
    for bundle, counts in ((a, (100, 180)), (b, (100, 150))):
        for count in counts:
            keep("eval", bundle, EVAL | correct(count))
    (found,) = kept_evals(a, b)
    d, low, high = unpaired(Score(200, 180), Score(200, 150))
    assert (found["points"], found["low"], found["high"]) == (100 * d, 100 * low, 100 * high)
    assert (found["verdict"], found["paired"], found["n"]) == ("worse", False, 200)
    assert (found["a"]["correct"], found["b"]["accuracy"]) == (180, 0.75)
    (back,) = kept_evals(b, a)
    assert back["verdict"] == "better"


@pytest.mark.parametrize(
    "other", [{"dataset": "easy-vqa"}, {"split": "val"}, {"n": 100}, {"metric": "top-1"}]
)
def test_other_questions_are_not_compared(pair, other):
    keep("eval", pair[0], EVAL)
    keep("eval", pair[1], EVAL | other)
    assert kept_evals(*pair) == []


def test_a_classifier_that_may_say_fewer_classes_is_compared_masked_or_not_at_all(pair):
    a, b = pair
    classes = {"asked": ["bag", "coat"], "of_bundle": 10}
    masked = {"masked": {"overall": {"n": 200, "correct": 190}}}
    keep("eval", a, EVAL | {"classes": classes})
    keep("eval", b, EVAL | {"classes": {**classes, "of_bundle": 2}})
    assert kept_evals(a, b) == []
    keep("eval", a, EVAL | {"classes": classes} | masked)
    keep("eval", b, EVAL | {"classes": {**classes, "of_bundle": 2}} | masked)
    (found,) = kept_evals(a, b)
    assert found["a"]["correct"] == found["b"]["correct"] == 190


def test_profiles_of_one_device_stand_side_by_side(pair):
    a, b = pair
    keep("profile", a, PROFILE)
    keep("profile", b, PROFILE | {"fps": 45.0})
    (found,) = kept_profiles(a, b, HERE)
    assert (found["device"], found["a"]["fps"], found["b"]["fps"]) == ("a board", 30.0, 45.0)
    assert "verdict" not in found and found["a"]["at"].endswith("Z")
    assert found["a"]["how"] == found["b"]["how"] == "measured-device"


def test_profiles_of_this_machine_or_of_two_devices_do_not(pair):
    a, b = pair
    keep("profile", a, PROFILE | {"host": HERE.as_json()})
    keep("profile", b, PROFILE | {"host": HERE.as_json()})
    keep("profile", a, PROFILE)
    keep("profile", b, PROFILE | {"host": PROFILE["host"] | {"cpu_model": "another"}})
    assert kept_profiles(a, b, HERE) == []


@pytest.mark.parametrize(
    "spoilt",
    [{}, {"overall": 7}, {"n": "many"}, {"overall": {"n": 0, "correct": 0}}, {"host": []},
     {"fps": "fast", "overall": None}],
)  # fmt: skip
def test_what_does_not_look_like_it_is_passed_over(pair, spoilt):
    for bundle in pair:
        keep("eval", bundle, {"schema": 1, **spoilt} if not spoilt else EVAL | spoilt)
        keep("profile", bundle, {"schema": 1, **spoilt} if not spoilt else PROFILE | spoilt)
    assert kept_evals(*pair) == [] or "overall" not in spoilt
    assert kept_profiles(*pair, HERE) == [] or not spoilt.keys() & {"host", "fps", "n"}
