"""The profile of requests with known times: every figure is checked against its definition.

Times are sums of powers of two where a figure is compared exactly.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices import profiler
from edgevlm.devices.power import Energy
from edgevlm.devices.profiler import STAGES, profile

VLM = {
    "preprocess": [0.125],
    "vision": [0.25],
    "connector": [0.125],
    "prefill": [0.5],
    "decode": [0.0625, 0.125, 0.0625],
    "end_to_end": [1.25],
}


def test_every_figure_of_a_vlm():
    result = profile(lambda i: VLM, warmup=0, n=4)
    data = result.as_json()
    assert list(data) == [
        "stages",
        "fps",
        "tokens_per_s",
        "ttft_ms",
        "answers_per_s",
        "power",
        "energy_j_per_answer",
        "energy_note",
        "warmup",
        "n",
        "peak_rss_mb",
        "host",
    ]
    assert tuple(data["stages"]) == STAGES
    assert data["fps"] == 1 / (0.125 + 0.25 + 0.125)
    assert data["ttft_ms"] == (0.125 + 0.25 + 0.125 + 0.5) * 1e3
    assert data["tokens_per_s"] == 16.0
    assert data["answers_per_s"] == 0.8
    assert data["stages"]["vision"] == {
        "p50_ms": 250,
        "p90_ms": 250,
        "p99_ms": 250,
        "min_ms": 250,
        "mean_ms": 250,
        "n": 4,
        "how": "measured-host",
    }
    assert data["stages"]["decode"]["n"] == 12  # one a token, over all requests
    assert data["stages"]["decode"]["mean_ms"] == pytest.approx(250 / 3)
    assert (data["warmup"], data["n"]) == (0, 4)
    assert data["energy_j_per_answer"] is None and data["power"] is None
    assert data["energy_note"] == "not measured: no meter was given"
    assert data["peak_rss_mb"] > 0 and data["host"]["cores"] >= 1
    assert json.loads(json.dumps(data)) == data


def test_sums_are_taken_within_each_request_before_the_median():
    # The medians of the stages are 1 and 1, but no request took 2 s: they took 10, 6 and 10 s.
    rows = [
        {"preprocess": [1.0], "vision": [9.0], "prefill": [0.0]},
        {"preprocess": [5.0], "vision": [1.0], "prefill": [6.0]},
        {"preprocess": [9.0], "vision": [1.0], "prefill": [3.0]},
    ]
    result = profile(lambda i: rows[i], warmup=0, n=3)
    assert result.fps == 1 / 10
    assert result.ttft_ms == 12e3  # of 10, 12 and 13 s
    assert result.stages["vision"].p50_ms == 1e3


def test_a_classifier_has_no_language_figures():
    result = profile(lambda i: {"vision": (0.5,), "end_to_end": (1.0,)}, warmup=0, n=1)
    assert (result.fps, result.answers_per_s) == (2.0, 1.0)
    assert result.ttft_ms is None and result.tokens_per_s is None
    assert set(result.stages) == {"vision", "end_to_end"}


def test_a_language_model_has_no_fps_and_one_token_answers_no_tokens_per_s():
    result = profile(lambda i: {"prefill": [0.5], "decode": []}, warmup=0, n=2)
    assert result.fps is None and result.ttft_ms == 500.0
    assert result.tokens_per_s is None and "decode" not in result.stages


def test_answers_of_different_lengths_share_one_decode_summary():
    lengths = [[0.25], [], [0.5, 0.25]]
    result = profile(lambda i: {"decode": lengths[i]}, warmup=0, n=3)
    assert result.tokens_per_s == 4.0 and result.stages["decode"].n == 3


def test_a_time_of_zero_gives_no_rate():
    result = profile(lambda i: {"vision": [0.0], "end_to_end": [0.0]}, warmup=0, n=1)
    assert result.fps is None and result.answers_per_s is None


def test_warm_up_is_not_timed_and_timed_requests_count_from_zero():
    calls, ticks = [], []

    def answer(i: int) -> dict[str, list[float]]:
        calls.append(i)
        return {"end_to_end": [8.0 if len(calls) <= 2 else 1.0]}

    result = profile(answer, warmup=2, n=3, progress=lambda *at: ticks.append(at))
    assert calls == [0, 1, 0, 1, 2]
    assert ticks == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert result.answers_per_s == 1.0 and result.stages["end_to_end"].n == 3


@pytest.mark.parametrize(
    ("warmup", "n", "name"),
    [
        (-1, 1, "warmup"),
        (0, 0, "n"),
        (0, -3, "n"),
        (0, 1.5, "n"),
        (0, True, "n"),
        ("1", 1, "warmup"),
    ],
)
def test_bad_counts_are_a_wrong_call(warmup, n, name):
    with pytest.raises(UsageFault) as caught:
        profile(lambda i: VLM, warmup=warmup, n=n)
    assert caught.value.code == "EV410" and caught.value.what.startswith(f"profile with {name} =")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"vison": [1.0]}], "request 0 timed unknown stages: vison"),
        ([{"vision": [1.0, 1.0]}], "request 0 timed vision 2 times"),
        (
            [{"vision": [1.0]}, {"vision": []}],
            "request 1 timed other stages than request 0: vision",
        ),
        ([{"vision": [-1.0]}], "negative or not finite"),
    ],
)
def test_times_that_break_the_rules_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        profile(lambda i: rows[i], warmup=0, n=len(rows))


def test_a_label_that_is_not_a_measurement_is_refused():
    with pytest.raises(ValueError, match="cannot be 'predicted'"):
        profile(lambda i: VLM, warmup=0, n=1, how="predicted")
    assert profile(lambda i: VLM, warmup=0, n=1, how="measured-device").stages["vision"].how == (
        "measured-device"
    )


def test_the_clock_is_the_one_after_the_last_timed_request(monkeypatch):
    order = []
    described = profiler.describe_host()
    monkeypatch.setattr(
        profiler,
        "describe_host",
        lambda: order.append("host") or replace(described, clock_mhz=800.0),
    )
    monkeypatch.setattr(profiler, "clock_mhz", lambda: order.append("clock") or 3600.0)
    result = profile(lambda i: order.append(i) or VLM, warmup=1, n=2)
    assert order == ["host", 0, 0, 1, "clock"] and result.host.clock_mhz == 3600.0


class Meter:
    """A fake meter: each window gives the next (joules, seconds) or raises the next fault."""

    name = "fake"

    def __init__(self, *readings, reason: str | None = None) -> None:
        self.readings, self.reason, self.open = list(readings), reason, 0

    def available(self) -> str | None:
        return self.reason

    def start(self) -> None:
        self.open += 1

    def stop(self) -> Energy:
        self.open -= 1
        reading = self.readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return Energy(*reading, "measured-host", self.name)


def fault(code: str = "EV402") -> JobFault:
    return JobFault(code, "power meter fake", "the cable is out", "plug it in")


def test_energy_is_what_the_meter_saw_during_the_timed_requests():
    seen = []
    meter = Meter((5, 5), (12, 2), (5, 5))
    result = profile(lambda i: seen.append(meter.open) or VLM, warmup=1, n=4, meter=meter, idle_s=0)
    assert seen == [0, 1, 1, 1, 1]  # the warm-up is outside the window
    assert result.energy_j_per_answer == 3.0
    assert result.energy.joules_above_idle_per_answer == 2.5
    assert "idle 1.00 W included, 2.5 J an answer above idle" in result.energy_note
    power = result.power
    assert (power["watts"], power["peak_watts"], power["idle_w_before"]) == (6.0, None, 1.0)
    assert power["fps_per_watt"] == result.fps / 6 and power["meter"] == "fake"


def test_a_rejected_reading_leaves_the_times_whole():
    result = profile(lambda i: VLM, warmup=0, n=1, meter=Meter((5, 5), (9, 1), (9, 5)), idle_s=0)
    assert result.energy_j_per_answer is None and result.fps == 2.0
    assert result.power["watts"] is None and result.power["fps_per_watt"] is None
    assert result.power["idle_w_after"] == pytest.approx(1.8)
    assert result.energy_note.startswith("rejected: idle power was 1.00 W before and 1.80 W after")


def test_a_meter_that_is_not_there_says_why():
    meter = Meter(reason="readable by root alone")
    result = profile(lambda i: VLM, warmup=0, n=1, meter=meter)
    assert result.energy_note == "not measured: readable by root alone" and result.energy is None


def test_a_meter_that_fails_after_the_last_request_does_not_lose_the_times():
    for readings in (((5, 5), fault()), ((5, 5), (5, 5), fault())):
        result = profile(lambda i: VLM, warmup=0, n=2, meter=Meter(*readings), idle_s=0)
        assert result.energy is None and result.energy_note == "not measured: the cable is out"
        assert result.stages["vision"].n == 2


def test_a_meter_that_fails_before_the_first_request_stops_the_profile():
    with pytest.raises(JobFault, match="EV402"):
        profile(lambda i: VLM, warmup=0, n=2, meter=Meter(fault()), idle_s=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), fault("EV399"), fault("EV402")])
@pytest.mark.parametrize("metered", [False, True])
def test_what_a_request_raises_passes_through_with_the_meter_stopped(error, metered):
    meter = Meter((5, 5), (5, 5)) if metered else None

    def answer(i: int) -> dict[str, list[float]]:
        if i == 1:
            raise error
        return VLM

    with pytest.raises(type(error)) as caught:
        profile(answer, warmup=0, n=3, meter=meter, idle_s=0)
    assert caught.value is error and (meter is None or meter.open == 0)
