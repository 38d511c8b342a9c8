"""Plans and benchmarks as they are read. All of them here are synthetic: written by hand."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.coreml import compute_plan as module
from edgevlm.runtimes.coreml.benchmark import parse_benchmark
from edgevlm.runtimes.coreml.compute_plan import judge, parse_plan
from edgevlm.runtimes.coreml.lint import lint

#: synthetic: the shape is that of scripts/compute_plan.py; placements and costs are made up
SYNTHETIC_PLAN = {
    "schema": 1, "coremltools": "9.0", "macos": "15.5", "machine": "arm64", "units": "CPU_AND_NE",
    "rows": [
        {"function": "main", "op": "a", "type": "ios18.linear", "preferred": "ANE",
         "supported": ["CPU", "ANE"], "cost": 0.9},
        {"function": "main", "op": "b", "type": "ios17.topk", "preferred": "CPU",
         "supported": ["CPU"], "cost": 0.1},
        {"function": "decode", "op": "c", "type": "ios17.topk", "preferred": "CPU",
         "supported": ["CPU"], "cost": None}],
}  # fmt: skip
#: synthetic likewise
SYNTHETIC_BENCHMARK = {
    "schema": 1, "coremltools": "9.0", "macos": "15.5", "machine": "arm64", "units": "ALL",
    "function": None, "load_ms": [120.5], "predict_ms": [4.0, 5.0],
    "ops": [{"op": "a", "type": "linear", "preferred": "ANE", "ms": 3.5}],
}  # fmt: skip


def encoded(told: object) -> bytes:
    return json.dumps(told).encode()


def changed(told: dict, path: tuple, value: object) -> bytes:
    told = copy.deepcopy(told)
    inner = told
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return encoded(told)


def test_a_synthetic_plan_is_read():
    found = parse_plan(encoded(SYNTHETIC_PLAN))
    assert found.label == "estimated-mlcomputeplan"
    assert found.counts() == {"ANE": 1, "CPU": 2} and found.counts("decode") == {"CPU": 1}
    assert found.cost("ANE") == pytest.approx(0.9) and found.cost("ANE", "decode") == 0
    assert found.off() == {"topk": 2} and found.rows[0].plain_type == "linear"


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("schema",), 2, "schema"),
        (("rows", 0, "preferred"), "TPU", "rows.0.preferred"),
        (("rows", 0, "cost"), 1.5, "rows.0.cost"),
        (("rows", 0, "cost"), -0.1, "rows.0.cost"),
        (("rows", 0, "op"), 3, "rows.0.op"),
        (("rows", 0, "more"), 1, "rows.0.more"),
        (("rows", 0, "op"), "x" * 5000, "rows.0.op"),
        (("units",), "NPU", "units"),
        (("rows",), {}, "rows"),
    ],
)
def test_a_plan_that_is_none(path, value, why):
    with pytest.raises(JobFault, match=f"EV381 a compute plan cannot be read: {why}"):
        parse_plan(changed(SYNTHETIC_PLAN, path, value))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("predict_ms",), [], "predict_ms"),
        (("predict_ms", 0), 0.0, "predict_ms.0"),
        (("predict_ms", 0), "4", "predict_ms.0"),
        (("ops", 0, "ms"), -1.0, "ops.0.ms"),
        (("ops", 0, "ms"), 6.0, "longer than the whole"),
        (("load_ms",), None, "load_ms"),
    ],
)
def test_a_benchmark_that_is_none(path, value, why):
    assert parse_benchmark(encoded(SYNTHETIC_BENCHMARK)).predict_median_ms == 4.5
    with pytest.raises(JobFault, match=f"EV381 a benchmark cannot be read: .*{why}"):
        parse_benchmark(changed(SYNTHETIC_BENCHMARK, path, value))


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_whatever_a_mac_says_is_told(data):
    for parse in (parse_plan, parse_benchmark):
        with pytest.raises(JobFault, match="EV381"):
            parse(data)


def test_not_a_number_and_too_much(monkeypatch):
    with pytest.raises(JobFault, match="EV381"):
        parse_benchmark(encoded(SYNTHETIC_BENCHMARK).replace(b"4.0", b"NaN"))
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    with pytest.raises(JobFault, match="more than"):
        parse_plan(encoded(SYNTHETIC_PLAN))


def test_predictions_are_judged_by_a_plan(emit):
    """A synthetic plan of a real package: topk left as predicted, cumsum stayed, relu left."""

    def build(mb, x):
        values, _ = mb.topk(x=x, k=2, name="t")
        return values, mb.cumsum(x=x, axis=-1, name="c"), mb.relu(x=x, name="r")

    predicted = lint(emit(build, {"x": np.zeros((1, 4, 32), np.float16)}))
    names = {kind: name for _, kind, name in predicted.all_ops}
    placed = {names["topk"]: "CPU", names["cumsum"]: "ANE", names["relu"]: "GPU", "other": "CPU"}
    rows = [
        {"function": "main", "op": name, "type": "ios17.x", "preferred": where, "supported": [],
         "cost": None} for name, where in placed.items()
    ]  # fmt: skip
    told = judge(predicted, parse_plan(encoded({**SYNTHETIC_PLAN, "rows": rows})))
    assert [kind for _, kind, _ in told.rightly] == ["topk"]
    assert [kind for _, kind, _ in told.wrongly] == ["cumsum"]
    assert [kind for _, kind, _ in told.missed] == ["relu"]
