"""A resumed run ends where an uninterrupted one does; the best average is what is kept."""

import copy
import json

import pytest

torch = pytest.importorskip("torch", reason="the trainers need: pip install 'edgevlm[torch]'")
pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from edgevlm.models.zoo.training.loop import Run, Settings, Stage, command  # noqa: E402

STEPS = 12


class Line(torch.nn.Module):
    """y = w x, in place of a VLM."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(3))

    def losses(self, x, y):
        return {"fit": ((x @ self.w - y) ** 2).mean(), "size": self.w.abs().sum()}


def stages(scores, upto):
    def draw(step):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return x, x @ torch.tensor([1.0, -2.0, 0.5])

    return [
        Stage("first", STEPS, {"fit": 1.0, "size": 0.0}, draw, lambda _: ({"seen": 1}, None)),
        Stage("second", upto, {"fit": 1.0, "size": 0.1}, draw, lambda _: ({}, next(scores))),
    ]


def run(tmp_path, name, scores, upto=STEPS, resume=False):
    learner, kept = Line(), []
    made = Run(
        Settings(rate=0.05, decay=0.9, report=4, bf16=False),
        learner,
        copy.deepcopy(learner).requires_grad_(False),
        tmp_path / f"{name}.jsonl",
        lambda average: kept.append(average.w.clone()),
        tmp_path / f"{name}.pt",
    )
    made.train(stages(iter(scores), upto), resume)
    return made, kept


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    whole, kept = run(tmp_path, "whole", [0.1, 0.3, 0.2])
    assert len(kept) == 2
    with pytest.raises(StopIteration):  # "killed" at the second report of the second stage
        run(tmp_path, "cut", [0.1])
    again, kept_again = run(tmp_path, "cut", [0.3, 0.2], resume=True)
    assert torch.equal(again.learner.w, whole.learner.w)
    assert torch.equal(again.average.w, whole.average.w)
    assert again.best == 0.3 and torch.equal(kept_again[-1], kept[-1])
    lines = [
        [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in log]
        for log in ((tmp_path / f"{n}.jsonl").read_text().splitlines() for n in ("whole", "cut"))
    ]
    (resumed,) = [line for line in lines[1] if line["stage"] == "resumed"]
    assert (resumed["in"], resumed["step"]) == ("second", 4)
    lines[1].remove(resumed)
    assert lines[0] == lines[1]
    assert [(x["stage"], x["step"], x.get("kept")) for x in lines[0]] == [
        ("first", 4, None),
        ("first", 8, None),
        ("first", 12, None),
        ("second", 4, True),
        ("second", 8, True),
        ("second", 12, False),
    ]


def test_a_loss_of_weight_nought_teaches_nothing(tmp_path):
    """The first stage leaves "size" out; the second pulls the weights towards zero by it."""
    made, _ = run(tmp_path, "x", [], upto=0)
    free = Run(
        made.settings, Line(), Line().requires_grad_(False), tmp_path / "y.jsonl", lambda _: None
    )
    first, _ = stages(iter([]), 0)
    free.train([Stage("first", STEPS, {"fit": 1.0, "size": 5.0}, first.draw, first.validate)])
    assert free.learner.w.abs().sum() < made.learner.w.abs().sum()


def test_the_command_names_no_path():
    options = {"out": "/a/b", "seed": 3, "bf16": False, "resume": True, "rate": 0.5}
    assert command("m.train", options, ("out", "resume")) == (
        "python -m m.train --seed 3 --rate 0.5 --no-bf16"
    )
