"""Times of stages from seconds of calls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.runtimes.tensorrt.on_device.timing import Times, ask


def test_stages_in_the_order_in_which_they_run():
    times = Times()
    times.add({"decode": [0.02] * 9 + [0.04], "vision": [0.1], "ttft": [0.2]})
    times.add({"decode": [0.04], "vision": [0.3], "ttft": [0.2], "preprocess": [9.0]})
    stages = times.stages()
    assert list(stages) == ["vision", "decode", "ttft"]
    assert (stages["vision"].p50_ms, stages["vision"].n) == (pytest.approx(200), 2)
    assert (stages["decode"].p50_ms, stages["decode"].p90_ms) == pytest.approx((20, 40))
    assert times.tokens_per_s == pytest.approx(11 / 0.26)


def test_the_report_is_json_and_lines():
    times = Times({"decode": [0.01, 0.01]})
    told = json.loads(json.dumps(times.as_json()))
    assert told["stages"]["decode"] == {"p50_ms": 10.0, "p90_ms": 10.0, "n": 2}
    assert times.lines()[-1] == "100.0 tokens/s"
    assert Times().as_json() == {"stages": {}, "tokens_per_s": None} and Times().lines() == []


class Sees:
    def call(self, role, feeds):
        assert role == "vision"
        return {"logits": np.array([[0.1, 0.7, 0.2]])}


def test_a_classifier_says_its_class():
    ids, seconds = ask(None, Sees(), "classifier", np.zeros((1, 3, 2, 2)))
    assert ids == [1] and set(seconds) == {"vision", "end_to_end"}


def test_a_first_token_comes_before_the_end(micro_model, micro_probes):
    from edgevlm.compiler.executor import ReferenceParts

    probe, parts = micro_probes[0], ReferenceParts(micro_model.parts)
    asked = (probe.pixel_values, probe.before, probe.after, micro_model.processor.eos_ids)
    ids, seconds = ask(micro_model.contract, parts, "vlm", *asked)
    assert len(ids) > 1 and len(seconds["decode"]) > 0
    # every step of decode comes behind the first token
    assert seconds["ttft"][0] + sum(seconds["decode"]) <= seconds["end_to_end"][0]
    assert seconds["ttft"][0] >= seconds["vision"][0] + seconds["prefill"][0]
