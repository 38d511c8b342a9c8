"""What a reader of ten seconds sees: the sentence, the cards, and what to beware of."""

from __future__ import annotations

import pytest
from micro.subject import make_eval, make_profile, make_record, make_subject

from edgevlm.devices.report.alerts import alerts
from edgevlm.devices.report.summary import cards, sentences


def told(subject):
    return " ".join(sentences(subject))


def texts(subject, level=None):
    return [a["text"] for a in alerts(subject) if level in (None, a["level"])]


def test_the_sentence_says_what_for_whom_how_fast_how_big_how_right():
    assert told(make_subject()) == (
        "tiny-vlm compiled for the CPU of the host, run by ONNX Runtime: 16 of 64 image tokens "
        "kept. 2.03 MB on disk. The first token comes after 8.00 ms in the median on Made Up 9000, "
        "4 cores (measured on the host, n = 100). It is right on 90.0 % of 100 shapes test "
        "questions (measured on the host). 12 of 12 probe answers are those of the source model."
    )


def test_a_classifier_is_told_as_one():
    said = told(make_subject(kind="classifier", profiles=[make_profile(ttft_ms=None)]))
    assert "A picture is done after 10.0 ms" in said and "100 shapes test pictures" in said


def test_a_prediction_is_called_one_wherever_its_figure_goes():
    subject = make_subject(profiles=[make_profile(how="predicted")])
    assert "(predicted, n = 100)" in told(subject)
    time, rate, *_ = cards(subject)
    assert time["how"] == rate["how"] == "predicted" and time["sort"] == rate["sort"] == "guess"
    assert any("predicted, not measured" in text for text in texts(subject, "caution"))


def test_a_bundle_that_was_never_measured_says_which_commands_do_it():
    subject = make_subject("a cat.edgevlm", profiles=[], evals=[])
    assert "has not been measured" in told(subject)
    time, rate, size, right, energy = cards(subject)
    assert time["value"] == rate["value"] == right["value"] == energy["value"] == "–"
    assert "edgevlm profile 'a cat.edgevlm'" in time["note"]
    assert "edgevlm eval 'a cat.edgevlm' --dataset NAME" in right["note"]
    assert "11 are right" in right["note"]  # the labelled probes are no accuracy, and still known
    assert (size["value"], size["how"]) == ("2.03", "counted")
    assert len(texts(subject, "note")) == 2


def test_joules_where_they_were_measured():
    power = {"meter": "ina3221", "how": "measured-device", "watts": 11.2}
    profile = make_profile(how="measured-device", energy_j_per_answer=0.246, power=power)
    *_, energy = cards(make_subject(profiles=[profile]))
    assert (energy["value"], energy["unit"], energy["how"]) == (
        "0.246", "J", "measured on the device",
    )  # fmt: skip
    assert energy["note"] == "11.2 W in the mean"


def test_the_gain_of_pruning_stays_with_the_machine_it_was_measured_on():
    here, there = make_profile(), make_profile(how="measured-device")
    assert "0.80× the time without pruning" in cards(make_subject())[0]["note"]
    assert "0.80×" not in cards(make_subject(profiles=[there, here]))[0]["note"]


def test_nothing_to_beware_of():
    assert alerts(make_subject()) == []


LAYER = {"role": "vision", "node": "n", "op": "TopK", "ms": 1.0, "how": "measured-device"}


@pytest.mark.parametrize(
    ("level", "part", "more"),
    [
        ("problem", "not what was compiled: a: changed", {"changed_files": ["a: changed"]}),
        ("problem", "1 of 12 goldens", {"answered": "1 of 12 goldens", "answered_wrong": True}),
        ("problem", "throttled", {"profiles": [make_profile(thermal={"throttled": True})]}),
        ("problem", "1 node ran elsewhere than on the NPU",
         {"expected": "npu", "profiles": [make_profile(layers=[LAYER | {"unit": "CPU"}])]}),
        ("problem", "slower than no pruning: 1.30×", {"record": make_record(payoff={
            "n": 20, "how": "measured-host", "slower": True,
            "first_token_ratio": {"median": 1.3, "low": 1.2, "high": 1.4}})}),
        ("caution", "5 timed requests only", {"profiles": [make_profile(n=5)]}),
        ("caution", "load 9 for 4 cores", {"profiles": [make_profile(
            host={"cpu_model": "x", "cores": 4, "load_average": [9, 9, 9]})]}),
        ("caution", "does not hold its pace, its last third took 1.20×", {"profiles": [make_profile(
            sustained={"first_ms": 1, "last_ms": 1.2, "ratio": 1.2, "slower": True})]}),
        ("problem", "Memory (predicted): does not fit", {"record": make_record(
            memory={"verdict": "does not fit", "text": "does not fit", "how": "predicted"})}),
        ("caution", "Memory (predicted): fits only if", {"record": make_record(
            memory={"verdict": "fits only if", "text": "fits only if", "how": "predicted"})}),
        ("caution", "40 answers only", {"evals": [make_eval(30, 40)]}),
        ("caution", "2 of 12 probe answers differ",
         {"record": make_record(answers={"agree_with_source": 10, "probes": 12})}),
        ("caution", "vision is 12.0 dB from source", {"record": make_record(parts=[
            {"role": "vision", "drift": {"sqnr_db": 12.0, "against": "source"}}])}),
        ("caution", "record of the compile is missing", {"record": make_record(parts=[])}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_to_beware_of(level, part, more):
    (text,) = texts(make_subject(**more))
    assert part in text and texts(make_subject(**more), level) == [text]


def test_the_worst_comes_first():
    subject = make_subject(profiles=[make_profile(n=5)], evals=[], changed_files=["a: changed"])
    assert [a["level"] for a in alerts(subject)] == ["problem", "caution", "note"]


def test_a_prediction_beside_a_measurement_is_no_alarm():
    subject = make_subject(profiles=[make_profile(), make_profile(how="predicted")])
    assert alerts(subject) == []
