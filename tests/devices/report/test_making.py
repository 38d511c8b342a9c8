"""Versions, the machine that compiled, derivation and the loss of quantisation, from a record."""

from __future__ import annotations

from micro.page import visible
from micro.subject import make_profile, make_record, make_subject

from edgevlm.commands.pareto import front
from edgevlm.devices.report.making import derived_view, drop_words, versions
from edgevlm.devices.report.page import render

HOST = {"cpu_model": "A CPU", "cores": 2, "os": "Linux", "python": "3.11.7", "load_average": None}
DERIVED = {
    "kind": "classes", "classes": ["bag", "coat"], "of": 10, "held_out": 400,
    "accuracy": {"base": 0.9, "base_head_mask": 0.97, "derived": 0.98},
    "macs": {"base": 94_500_000, "derived": 50_000_000}, "how": "measured-host",
}  # fmt: skip


def test_versions_say_what_each_did():
    record = make_record(host=HOST, seconds=11.9, peak_rss_mb=341.8)
    tools = {"numpy": "2", "onnxruntime": "1.25", "edgevlm": "0.2.0", "openvino": None}
    subject = make_subject(record=record, profiles=[make_profile(tools=tools)])
    assert versions(subject)[:4] == [
        ("edgevlm", "0.1.0 (compiled it)"),
        ("onnxruntime", "1.25 (made the artifacts, there when it was timed)"),
        ("numpy", "2 (there when it was timed)"),
        ("edgevlm", "0.2.0 (there when it was timed)"),
    ]
    told = dict(versions(subject))
    assert told["compiled on"] == (
        "A CPU, 2 cores, Linux, Python 3.11.7, in 11.9 s, 342 MB of memory at its peak"
    )
    assert told["licence of the source"] == "MIT"


def test_versions_of_a_prediction_ran_nothing():
    profile = make_profile(how="predicted", tools={"numpy": "2"})
    assert "numpy" not in dict(versions(make_subject(profiles=[profile])))


def test_a_derived_model_beside_its_base():
    subject = make_subject(record=make_record(derived=DERIVED))
    view = derived_view(subject)
    assert view["title"] == "Derived for 2 of 10 classes"
    assert [(r["name"], r["right"], r["mmac"]) for r in view["rows"]] == [
        ("base", "90.0", "94.5"), ("base + head mask", "97.0", "94.5"), ("derived", "98.0", "50.0"),
    ]  # fmt: skip
    text = visible(render([subject], front))
    assert "On 400 rows that it was neither fitted to nor chosen by." in text


def test_nothing_held_out_nothing_told():
    assert derived_view(make_subject()) is None
    latency_only = make_record(derived={"latency": {"budget_ms": 3}})
    assert derived_view(make_subject(record=latency_only)) is None


def test_what_quantisation_took():
    drop = {"of": "accuracy on train", "before": 0.97, "after": 0.965, "drop_points": 0.5,
            "n": 1000, "how": "measured-host"}  # fmt: skip
    subject = make_subject(record=make_record(quant={"scheme": "w8", "drop": drop}))
    assert drop_words(subject) == (
        "Quantisation took 0.50 points of accuracy on train, from 97.0 to 96.5 % "
        "(n = 1,000, measured on the host)."
    )
    assert drop_words(subject) in visible(render([subject], front))
    assert drop_words(make_subject()) == ""
