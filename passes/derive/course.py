"""The loop of a short training, of masks or of weights: random batches, now and then a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["HELD", "Course", "every_look", "held_out", "steps_of"]

HELD = 4  # every fourth picture is held out
LOOKS = 20  # at these, spread evenly


@dataclass(frozen=True)
class Course:
    """How a training goes."""

    steps: int
    batch: int  # pictures
    rate: float  # of learning
    seed: int
    every: int  # steps between looks at the held-out pictures


def held_out(pictures: int) -> np.ndarray:
    """bool [pictures]"""
    return np.arange(pictures) % HELD == HELD - 1


def every_look(steps: int) -> int:
    """Steps between looks."""
    return max(1, steps // LOOKS)


def steps_of(
    course: Course,
    optimiser: torch.optim.Optimizer,
    loss: Callable[[np.ndarray], torch.Tensor],
    pictures: int,
    fading: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[int]:
    """Trains; comes back with the number of each step behind which it is time for a look.

    loss: of numbers of pictures, int [batch]. fading: of the learning rate, a step each step.
    """
    rng = np.random.default_rng(course.seed)
    for step in range(1, course.steps + 1):
        some = rng.choice(pictures, min(course.batch, pictures), replace=False)
        optimiser.zero_grad()
        loss(some).backward()
        optimiser.step()
        if fading is not None:
            fading.step()
        if step % course.every == 0 or step == course.steps:
            yield step
