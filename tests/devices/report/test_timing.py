"""One profile as it is shown: measured in the machine's own form, or predicted."""

from __future__ import annotations

import pytest
from micro.page import visible
from micro.subject import make_profile, make_subject

from edgevlm.commands.pareto import front
from edgevlm.devices.report.measured import Profile
from edgevlm.devices.report.page import render
from edgevlm.devices.report.timing import profile_view

#: as `edgevlm profile --device NAME --json` prints of a device that is not at hand
PREDICTION = {
    "bundle": "cat.edgevlm",
    "device": {"id": "kv260", "name": "A board", "unit": "fabric", "runtime": "fpga"},
    "how": "predicted", "confidence": "C", "at_least": True, "fps": 90.0, "ttft_ms": 14.0,
    "stages": {
        "vision": {"ms": 8.0, "bound": "memory", "kernels": 9, "how": "predicted"},
        "prefill": {"ms": 6.0, "bound": "compute", "kernels": 9, "how": "predicted"},
        "decode": {"ms": None, "bound": None, "kernels": 0, "how": "predicted"},
    },
    "notes": ["int8 stands in for fp16"],
    "this_machine": {"stages": {"vision": {"predicted_ms": 1.0, "measured_ms": 1.8, "ratio": 1.8,
                                           "n": 20, "how": "measured-host"}}},
    "layers": [
        {"role": "vision", "node": "a", "op": "Conv", "ms": 8.0, "how": "predicted"},
        {"role": "decode", "node": "b", "op": "Add", "ms": None, "how": "predicted"},
    ],
}  # fmt: skip


def view(profile, **more):
    return profile_view(make_subject(**more), profile)


def test_bars_are_to_one_scale_with_the_whole_as_a_total():
    stages = {s["name"]: s for s in view(make_profile(10.0))["stages"]}
    assert stages["end to end"]["mark"] == "100.00%" and stages["end to end"]["whole"]
    assert stages["vision"]["bar"] == f"{100 * 3 / 15:.2f}%"
    assert (stages["vision"]["p50"], stages["vision"]["p99"]) == ("3.00", "4.50")


def test_what_the_first_token_waits_for_adds_up_to_all_of_it():
    parts = view(make_profile())["first_token"]["parts"]
    assert [p["name"] for p in parts] == ["preprocess", "vision", "connector", "prefill"]
    assert sum(float(p["grow"]) for p in parts) == pytest.approx(1, abs=1e-4)
    stages = {"vision": {"p50_ms": 1.0, "how": "measured-host"}}
    assert view(make_profile(stages=stages))["first_token"] is None


def test_a_prediction_says_so_what_it_rests_on_and_how_far_it_is_off():
    profile = Profile.model_validate(PREDICTION)
    assert list(profile.stages) == ["vision", "prefill"] and len(profile.layers) == 1
    found = view(profile)
    assert (found["place"], found["how"], found["sort"]) == ("A board", "predicted", "guess")
    assert {s["sort"] for s in found["stages"]} == {"guess"}
    assert {(s["p90"], s["p99"], s["to"]) for s in found["stages"]} == {("–", "–", None)}
    assert found["notes"] == [
        "These times are the least: something unknown is left out of them.",
        "int8 stands in for fp16",
        "The least sure fact that it rests on has confidence C.",
        "On the machine that predicted, measured was vision 1.80× of predicted.",
    ]
    text = visible(render([make_subject(profiles=[profile])], front))
    assert all(note in text for note in found["notes"])
    assert "comes after at least 14.0 ms on A board (predicted)" in text
    assert "trust shares" not in text


def test_nothing_ran_so_no_unit_ran_it():
    assert not view(Profile.model_validate(PREDICTION))["placement"]
    assert view(Profile.model_validate(PREDICTION))["layers"]["how"] == "predicted"


def test_joules_and_why_there_are_none():
    power = {"meter": "ina3221", "how": "measured-device", "watts": 11.0, "joules_per_image": 0.1}
    rows = view(make_profile(power=power, energy_j_per_answer=0.2))["energy"]["rows"]
    assert rows[0] == ("an answer, idle power included", "0.200", "J")
    assert rows[1] == ("a picture, idle power included", "0.100", "J")
    none = view(make_profile(energy_note="not measured: this machine has none of rapl"))["energy"]
    assert none["rows"] == []
    assert none["words"] == ("Not measured: this machine has none of rapl.")
    assert none["command"] == "edgevlm profile cat.edgevlm --device ssh://USER@HOST"
    predicted = view(make_profile(how="predicted"))["energy"]
    assert predicted["words"] == "Energy is not predicted."


def test_how_the_device_was_reached_and_whether_it_held_its_pace():
    facts = view(make_profile(
        device={"reached": "ssh", "cuts": 2}, how="measured-device",
        sustained={"first_ms": 10, "last_ms": 12, "ratio": 1.2, "slower": True, "n": 33},
    ))["facts"]  # fmt: skip
    assert "reached over ssh, the link was cut 2 times" in facts
    assert "its last third took 1.20× its first" in facts
    assert not any("reached" in fact for fact in view(make_profile())["facts"])


@pytest.mark.parametrize(
    ("throttled", "said"),
    [(True, "It throttled meanwhile: hot."), (False, "It did not throttle: hot."),
     (None, "Whether it throttled cannot be told: hot.")],
)  # fmt: skip
def test_heat_in_words(throttled, said):
    thermal = {"series": [], "throttled": throttled, "why": "hot"}
    found = view(make_profile(thermal=thermal))
    assert found["heat_words"] == said and found["heat"] is None
