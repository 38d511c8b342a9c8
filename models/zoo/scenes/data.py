"""Scenes of one split, drawn once into memory, as training batches with questions and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgevlm.models.zoo.scenes import dataset, facts, practice, questions, scenes
from edgevlm.models.zoo.scenes.config import SPEC
from edgevlm.models.zoo.training.heads import IGNORE
from edgevlm.models.zoo.training.processor import vary

__all__ = ["Batch", "Drawn", "held_out"]

Pairs = list[tuple[str, str]]
LEFT = facts.PLACE  # figure "leftmost", and "rightmost" behind it


@dataclass
class Batch:
    """Images and what is known about them; P patches, IGNORE where a patch shows too little."""

    images: torch.Tensor  # [B, 3, 96, 96] uint8
    rows: list[Pairs]  # (question, answer) of each image
    bits: torch.Tensor  # [B, facts.BITS]
    classes: torch.Tensor  # [B, P, len(facts.CLASSES)] 0 is background
    figures: torch.Tensor  # [B, P, PLACE + ENDS]
    centre: torch.Tensor  # [B, P] 1 where the centre of a thing is
    things: torch.Tensor  # [B, MOST, 3] shape, colour and size of each thing; 0 where there is none
    spots: torch.Tensor  # [B, MOST, PLACE] of each thing


class Drawn:
    """The first `count` scenes of a split; half of a batch mirrored, new questions every time.

    `easy` training pictures of one or two things may come behind them."""

    def __init__(self, split: int, count: int, easy: int = 0) -> None:
        self.count = count
        self.things: list[tuple[questions.Thing, ...]] = []
        images, bits, classes, figures, owner, centre = [], [], [], [], [], []
        for i in range(count + easy):
            few = 1 + i % practice.EASY
            scene = scenes.make_scene(split, i) if i < count else scenes.make_easy_scene(i, few)
            self.things.append(scene.things)
            images.append(scene.image)
            bits.append(facts.bits(scene.things))
            for store, made in ((classes, 0), (figures, 1)):
                store.append(facts.labels(scene.things)[made])
            where = facts.owners(scene, SPEC.patch)
            owner.append(where[0])
            centre.append(where[1])
        stack = [torch.from_numpy(np.stack(x)) for x in (images, bits, classes, figures)]
        self.images, self.bits, self.classes, self.figures = stack
        self.images = self.images.permute(0, 3, 1, 2).contiguous()
        self.owner, self.centre = (torch.from_numpy(np.stack(x)) for x in (owner, centre))

    def batch(
        self, rng: np.random.Generator, count: int, each: int, easier: int = 0, easy: int = 0
    ) -> Batch:
        """`count` scenes with `each` questions of every kind and `easier` ones; `easy` of the
        pictures are easy, and all their questions."""
        chosen = rng.choice(self.count, size=count, replace=False)
        chosen[:easy] = rng.integers(self.count, len(self.things), size=easy)
        flip = rng.integers(0, 2, size=count).astype(bool)
        rows = []
        for i, turned in zip(chosen, flip, strict=True):
            things = scenes.mirrored(self.things[i]) if turned else self.things[i]
            full = each if len(things) > practice.EASY else 0
            pairs = [(q, a) for _, q, a in (questions.ask(rng, things, full) if full else ())]
            more = easier if full or not each else easier + each * len(questions.KINDS)
            pairs += practice.practise(rng, things, more)
            rows.append([(vary(rng, question), answer) for question, answer in pairs])
        return self._laid(torch.from_numpy(chosen), torch.from_numpy(flip), rows)

    def all(self, rows: list[Pairs]) -> Batch:
        """Every scene as it is, with these questions."""
        count = len(self.things)
        return self._laid(torch.arange(count), torch.zeros(count, dtype=torch.bool), rows)

    def _laid(self, chosen: torch.Tensor, flip: torch.Tensor, rows: list[Pairs]) -> Batch:
        images, owner, centre = (
            torch.where(flip.view(-1, *[1] * (grid.dim() - 1)), grid.flip(-1), grid)
            for grid in (self.images[chosen], self.owner[chosen], self.centre[chosen])
        )
        owner = owner.flatten(1)
        at = torch.arange(len(chosen))[:, None], owner.clamp(min=0)
        classes = self.classes[chosen][at]
        classes[owner < 0] = IGNORE
        figures = self.figures[chosen][at]
        order = list(range(figures.shape[-1]))
        order[LEFT], order[LEFT + 1] = LEFT + 1, LEFT
        turned = figures[..., order]
        turned[..., 0] = 1 - turned[..., 0]
        figures = torch.where(flip[:, None, None], turned, figures)
        things = self.classes[chosen][:, 1:, : len(facts.GROUPS)]
        spots = self.figures[chosen][:, 1:, : facts.PLACE].clone()
        spots[flip, :, 0] = 1 - spots[flip, :, 0]
        bits = self.bits[chosen]
        return Batch(images, rows, bits, classes, figures, centre.flatten(1), things, spots)


def held_out(split: int, count: int, each: int) -> list[Pairs]:
    """The fixed questions of the first `count` scenes of a held-out split; see `dataset.py`."""
    return [[(q, a) for _, q, a in dataset.asked(split, i, each)] for i in range(count)]
