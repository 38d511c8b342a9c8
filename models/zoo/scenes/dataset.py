"""The fixed questions of the held-out splits: 500 test scenes of ten questions, 5,000 in all.

Needs numpy only.
"""

from __future__ import annotations

import numpy as np

from edgevlm.models.zoo.scenes import questions, scenes

__all__ = ["EACH", "SCENES", "asked", "rows"]

SCENES = {scenes.TRAIN: 500, scenes.VALIDATION: 200, scenes.TEST: 500}  # of a split that are asked
EACH = 2  # questions of every kind, a scene
_ASK = 1  # tells the generator of questions from that of the picture


def asked(
    split: int, index: int, each: int = EACH, things: tuple[questions.Thing, ...] | None = None
) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of scene `index`; the same in every run."""
    seed = np.random.SeedSequence((split, index, _ASK))
    rng = np.random.Generator(np.random.PCG64(seed))
    return questions.ask(rng, things or scenes.make_scene(split, index).things, each)


def rows(split: int) -> list[tuple[scenes.Scene, list[tuple[str, str, str]]]]:
    """Every scene that is asked about in a split, with its questions."""
    made = [scenes.make_scene(split, i) for i in range(SCENES[split])]
    return [(s, asked(split, i, things=s.things)) for i, s in enumerate(made)]
