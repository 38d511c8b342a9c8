"""Figures of strangers: what is known has a type and a bound, what is new is passed over."""

from __future__ import annotations

import json

import pytest
from micro.subject import make_eval, make_profile
from pydantic import ValidationError

from edgevlm.devices.report.measured import Profile, is_measured

STAGE = {"p50_ms": 1.0, "how": "measured-host"}


def profile(**more):
    return Profile.model_validate_json(json.dumps({"stages": {"vision": STAGE}} | more))


def test_a_stage_with_its_median_alone_will_do():
    assert profile().stages["vision"].p50_ms == 1.0 and profile().n is None


def test_what_a_later_version_adds_is_passed_over():
    assert profile(colour={"deep": [1, 2]}, bundle_mb="so").fps is None


@pytest.mark.parametrize(
    "broken",
    [
        {"stages": {}},
        {"stages": {"vision": {"p50_ms": 1.0}}},
        {"stages": {"vision": {"p50_ms": -1.0, "how": "measured-host"}}},
        {"stages": {"vision": {"p50_ms": 1e300, "how": "measured-host"}}},
        {"stages": {"vision": {"p50_ms": 1.0, "how": "trust me"}}},
        {"stages": {"x" * 500: STAGE}},
        {"stages": {str(i): STAGE for i in range(40)}},
        {"fps": -1},
        {"energy_j_per_answer": "much"},
        {"tools": {"x": 1}},
        {"host": {"cpu_model": "x" * 5000}},
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00Z<b>"},
        {"layers": [{"role": "vision", "node": "n", "op": "Add", "ms": 1.0, "how": "guess"}]},
        {"thermal": {"series": [{"at_s": -1, "celsius": 20}]}},
        {"state": {"before": {"units_mhz": {"gpu": "fast"}}}},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_what_is_not_as_it_should_be_is_refused(broken):
    with pytest.raises(ValidationError):
        profile(**broken)


@pytest.mark.parametrize("name", ["fps", "ttft_ms", "peak_rss_mb"])
def test_no_infinity_and_no_nan(name):
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValidationError):
            Profile.model_validate({"stages": {"vision": STAGE}, name: value})


def test_a_prediction_among_measurements_is_not_hidden():
    stages = {"vision": STAGE, "prefill": {"p50_ms": 2.0, "how": "estimated-vela"}}
    found = profile(stages=stages)
    assert found.how == "estimated-vela" and not is_measured(found.how)
    assert profile().how == "measured-host"


def test_where_it_ran_in_words():
    assert make_profile().place == "Made Up 9000, 4 cores"
    there = {"id": "jetson", "name": "Jetson", "reached": "ssh"}
    assert make_profile(device=there, how="measured-device").place == "Jetson"
    here = {"id": "host-cpu", "name": "The CPU of this machine", "reached": "local"}
    assert make_profile(device=here).place == "Made Up 9000, 4 cores"
    assert make_profile(device={"id": "iphone"}, how="predicted").place == "iphone"
    assert profile().place == "an unnamed machine"


def test_what_a_user_waits_for():
    assert make_profile(10.0).answer_ms == pytest.approx(8.0)
    assert make_profile(10.0, ttft_ms=None).answer_ms == 10.0
    assert profile().answer_ms is None


def test_only_the_same_questions_have_the_same_key():
    some = {"asked": ["bag", "coat"], "of_dataset": 10}
    other = {"asked": ["bag", "shirt"], "of_dataset": 10}
    whole = {"asked": ["bag", "coat"], "of_dataset": 2}
    keys = [make_eval(classes=c).key for c in (some, other, whole)] + [make_eval().key]
    assert len(set(keys[:3])) == 3 and keys[2] == keys[3]
    assert make_eval(classes=some).asked == "shapes test (2 of 10 classes)"
    assert make_eval(90, 100).key == make_eval(10, 1000).key
