"""Calls of `edgevlm sweep` that are wrong, refused before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgevlm.commands import sweep_setup
from edgevlm.commands.sweep import SweepOptions, sweep_model
from edgevlm.compiler.errors import JobFault


@pytest.mark.parametrize(
    ("args", "status", "code", "said"),
    [
        (("--over", "token=16"), 2, "EV221", "did you mean --over tokens=16"),
        (("--over", "prune=darrt", "--over", "tokens=3"), 2, "EV201", "dart"),
        (("--over", "prune=dart,stride"), 2, "EV220", "without --tokens"),
        (("--over", "prune-at=llm:x", "--over", "tokens=3"), 2, "EV209", "llm"),
        (("--over", "tokens=half"), 2, "EV203", "half"),
        (("--over", "quant=w8,w3"), 2, "EV202", "w3"),
        (("--over", "tokens=3", "--dataset", "easy-vka"), 2, "EV130", "easy-vqa"),
        (("--over", "tokens=3", "--dataset", "easy-scenes", "--split", "x"), 2, "EV132", "test"),
        (("--over", "tokens=3", "--limit", "5"), 2, "EV220", "without a data set"),
        (("--over", "tokens=3", "-n", "0"), 2, "EV001", "-n"),
        ((), 2, "EV001", "--over"),
    ],
)
def test_a_wrong_call_is_refused_before_any_work(sweep, tmp_path, args, status, code, said):
    ended = sweep(*args)
    assert (ended.status, ended.json["error"]["code"]) == (status, code)
    assert said in ended.err and not (tmp_path / "sweep").exists()


def test_an_unknown_target_and_model(edgevlm, tmp_path):
    rest = ("--over", "tokens=3", "-o", tmp_path / "sweep")
    assert edgevlm("sweep", "easyvqa-tiny", "--target", "cpux", *rest).code == "EV301"
    assert edgevlm("sweep", "easyvqa-tony", "--target", "cpu", *rest).code == "EV100"


def test_a_model_that_answers_no_questions_is_refused(monkeypatch, micro_model, tmp_path):
    plain = micro_model.contract.model_copy(update={"kind": "classifier"})
    monkeypatch.setattr(
        sweep_setup, "open_source", lambda name: replace(micro_model, contract=plain)
    )
    with pytest.raises(JobFault, match="EV323"):
        sweep_model("m", SweepOptions("cpu", tmp_path / "sweep", ["tokens=3"]))
    assert list(tmp_path.iterdir()) == []


def test_other_settings_in_the_same_folder(sweep):
    sweep("--over", "tokens=6", "--no-baseline")
    ended = sweep("--over", "tokens=6", "--no-baseline", n=4)
    assert (ended.status, ended.json["error"]["code"]) == (2, "EV312")
    assert "n 3 (now 4)" in ended.json["error"]["why"]
    forced = sweep("--over", "tokens=6", "--no-baseline", "--force", n=4)
    assert forced.status == 0 and forced.json["measured"] == 1
