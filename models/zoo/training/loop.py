"""Run the stages of a training: steps, averaged weights, validation, a log, a state to resume from.

A stage draws a batch for each step; the learner gives its losses by name. Weights are averaged over
time, and it is the average that is validated and kept. With a state file a run that was stopped
goes on at its last report; draws that follow from the step alone then repeat exactly.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgevlm.models.zoo.training.heads import BaseLearner

__all__ = ["WARM_UP", "Run", "Settings", "Stage", "command"]

WARM_UP = 200  # steps


@dataclass(frozen=True)
class Settings:
    """How every stage is trained."""

    rate: float  # the highest learning rate
    decay: float  # of the weight average, a step
    report: int  # steps between validations
    bf16: bool  # autocast


@dataclass(frozen=True)
class Stage:
    """One pass of the schedule, with an optimiser and a cosine of its own."""

    name: str
    steps: int
    weights: Mapping[str, float]  # of the losses, by name
    draw: Callable[[int], tuple[Any, ...]]  # step -> arguments of `losses`
    # The averaged learner -> what to log, and a score where the best weights are to be kept.
    validate: Callable[[Any], tuple[dict[str, object], float | None]]


@dataclass
class Run:
    """A learner, its average, and where the run stands."""

    settings: Settings
    learner: BaseLearner  # has losses(*drawn) -> name -> scalar
    average: BaseLearner
    log: Path
    keep: Callable[[Any], None]  # called with the average whenever its score is the best so far
    state: Path | None = None
    best: float = -1.0
    began: float = field(default_factory=time.time)

    def record(self, **facts: object) -> None:
        """One line of the log."""
        line = json.dumps({**facts, "seconds": round(time.time() - self.began, 1)})
        print(line, flush=True)
        with self.log.open("a") as stream:
            stream.write(line + "\n")

    def train(self, stages: list[Stage], resume: bool = False, command: str = "") -> None:
        """All stages, or those that the state file says are left; `command` is for the log."""
        saved = torch.load(self.state, weights_only=True) if resume and self.state else None
        first = 0
        if saved is not None:
            first = [stage.name for stage in stages].index(saved["stage"])
            self.best, self.began = saved["best"], time.time() - saved["seconds"]
            self.learner.load_state_dict(saved["learner"])
            self.average.load_state_dict(saved["average"])
            where = {"in": saved["stage"], "step": saved["step"]}
            self.record(stage="resumed", **where, command=command)
        for stage in stages[first:]:
            self._stage(stage, saved)
            saved = None

    def _stage(self, stage: Stage, saved: dict[str, Any] | None) -> None:
        settings, learner = self.settings, self.learner
        optimiser = torch.optim.AdamW(
            learner.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.05
        )
        start, means = 0, {}
        if saved is not None:
            start, means = saved["step"], saved["means"]
            optimiser.load_state_dict(saved["optimiser"])
        for step in range(start + 1, stage.steps + 1):
            rate = settings.rate * min(1, step / WARM_UP) * _cosine(step / stage.steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            drawn = stage.draw(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
                losses = learner.losses(*drawn)
            total = sum(stage.weights[key] * value for key, value in losses.items())
            optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimiser.step()
            _follow(self.average, learner, min(settings.decay, step / (step + 10)))
            for key, value in losses.items():
                means[key] = 0.98 * means.get(key, value.item()) + 0.02 * value.item()
            if step % settings.report == 0 or step == stage.steps:
                self._report(stage, step, means)
                self._save(stage, step, means, optimiser)

    def _report(self, stage: Stage, step: int, means: dict[str, float]) -> None:
        facts, score = stage.validate(self.average)
        if score is not None:
            facts["kept"] = score > self.best
            if score > self.best:
                self.best = score
                self.keep(self.average)
        losses = {key: round(value, 4) for key, value in means.items()}
        self.record(stage=stage.name, step=step, loss=losses, **facts)

    def _save(
        self, stage: Stage, step: int, means: dict[str, float], optimiser: torch.optim.Optimizer
    ) -> None:
        if self.state is None:
            return
        draft = self.state.with_suffix(".part")
        torch.save(
            {
                "stage": stage.name,
                "step": step,
                "means": means,
                "best": self.best,
                "seconds": time.time() - self.began,
                "learner": self.learner.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": optimiser.state_dict(),
            },
            draft,
        )
        draft.replace(self.state)


def command(module: str, options: Mapping[str, object], skip: tuple[str, ...]) -> str:
    """The command that repeats a run, without the paths of the machine it ran on."""
    words = [
        f"--{k.replace('_', '-')} {v}"
        for k, v in options.items()
        if k not in skip and not isinstance(v, bool)
    ]
    words += [
        f"--{'' if v else 'no-'}{k.replace('_', '-')}"
        for k, v in options.items()
        if k not in skip and isinstance(v, bool)
    ]
    return " ".join([f"python -m {module}", *words])


def _cosine(done: float) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _follow(average: BaseLearner, learner: BaseLearner, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), learner.buffers(), strict=True):
        mine.copy_(theirs)  # statistics of batch norms, which are averages already
