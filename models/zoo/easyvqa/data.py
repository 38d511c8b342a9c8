"""Read easy-VQA, hold validation images out, and turn images and questions into training batches.

Two sources feed the trainer alike: the real training images, and our own scenes drawn once into
memory. Each gives images, questions, and labels for the auxiliary heads.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgevlm.models.zoo.easyvqa import facts, questions, scenes
from edgevlm.models.zoo.training.heads import IGNORE
from edgevlm.models.zoo.training.processor import vary

__all__ = [
    "Batch",
    "Drawn",
    "Real",
    "hold_out",
    "installed_data",
    "joined",
    "read_split",
]

Pairs = list[tuple[str, str]]


@dataclass
class Batch:
    """Images and what is known about them; patch labels are IGNORE where there are none."""

    images: torch.Tensor  # [B, 3, 64, 64] uint8
    rows: list[Pairs]  # (question, answer) of each image
    facts: torch.Tensor  # [B, facts.COUNT] 0, 1 or facts.UNKNOWN
    patch_shape: torch.Tensor  # [B, 64]
    patch_colour: torch.Tensor  # [B, 64]


def installed_data() -> Path:
    """The data folder of the installed easy-vqa package, found without importing it."""
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("easy-vqa is not installed: pip install easy-vqa==1.0, or --data")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_split(data: Path, split: str) -> tuple[torch.Tensor, list[Pairs]]:
    """Images [N, 3, 64, 64] uint8, and for each image its (question, answer) pairs."""
    entries = json.loads((data / split / "questions.json").read_text())
    count = 1 + max(image for _, _, image in entries)
    rows: list[Pairs] = [[] for _ in range(count)]
    for question, answer, image in entries:
        rows[image].append((question, answer))
    folder = data / split / "images"
    pictures = [np.asarray(Image.open(folder / f"{i}.png").convert("RGB")) for i in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), rows


def hold_out(count: int, held: int = 400) -> tuple[list[int], list[int]]:
    """Indices to train on and to validate on; the same in every run, whatever its seed."""
    order = np.random.default_rng(400).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])


def joined(parts: list[Batch]) -> Batch:
    """One batch out of several."""
    tensors = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("images", "facts", "patch_shape", "patch_colour")
    ]
    return Batch(tensors[0], [row for part in parts for row in part.rows], *tensors[1:])


class Real:
    """Training images of easy-VQA: turned, mirrored and moved about, the shape always whole."""

    def __init__(self, images: torch.Tensor, rows: list[Pairs]) -> None:
        self.images, self.rows = images, rows
        self.facts = torch.stack([facts.told(pairs) for pairs in rows])
        self.low, self.high = _free_moves(images)

    def batch(self, rng: np.random.Generator, count: int, asked: int) -> Batch:
        chosen = rng.choice(len(self.rows), size=count, replace=False)
        low, high = self.low[chosen], self.high[chosen]
        moves = torch.from_numpy(low + (rng.random((count, 2)) * (high - low + 1)).astype(int))
        base = torch.arange(scenes.SIDE)
        down, right = ((base - moves[:, k, None]) % scenes.SIDE for k in (0, 1))
        moved = self.images[
            torch.from_numpy(chosen)[:, None, None], :, down[:, :, None], right[:, None, :]
        ].permute(0, 3, 1, 2)
        blank = torch.full((count, 8, 8), IGNORE)
        images, shape, colour = _turn(rng, moved, blank, blank)
        picked = [
            [self.rows[i][j] for j in rng.permutation(len(self.rows[i]))[:asked]] for i in chosen
        ]
        return Batch(images, _typed(rng, picked), self.facts[chosen], shape, colour)


class Drawn:
    """Our own scenes of one split, drawn once; turned and mirrored, new questions every time."""

    def __init__(self, split: int, count: int) -> None:
        drawn = [scenes.make_scene(split, i) for i in range(count)]
        self.things = [[(t.shape, t.colour) for t in scene.things] for scene in drawn]
        self.images = torch.from_numpy(np.stack([s.image for s in drawn])).permute(0, 3, 1, 2)
        labels = [scenes.patch_labels(scene) for scene in drawn]
        self.shape, self.colour = (
            torch.from_numpy(np.stack(part)).view(count, 8, 8) for part in zip(*labels, strict=True)
        )
        self.facts = torch.stack([facts.seen(things) for things in self.things])

    def batch(self, rng: np.random.Generator, count: int, asked: int) -> Batch:
        chosen = rng.choice(len(self.things), size=count, replace=False)
        turned = _turn(rng, self.images[chosen], self.shape[chosen], self.colour[chosen])
        picked = [questions.ask(rng, self.things[i], asked) if asked else [] for i in chosen]
        return Batch(turned[0], _typed(rng, picked), self.facts[chosen], *turned[1:])


def _typed(rng: np.random.Generator, rows: list[Pairs]) -> list[Pairs]:
    return [[(vary(rng, q), a) for q, a in pairs] for pairs in rows]


def _turn(rng: np.random.Generator, *grids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mirror (1/2), stand on the head (1/4), swap the axes (1/4): each row of all grids alike."""
    for chance, operation in (
        (0.5, lambda x: x.flip(-1)),
        (0.25, lambda x: x.flip(-2)),
        (0.25, lambda x: x.transpose(-1, -2)),
    ):
        hit = torch.from_numpy(rng.random(len(grids[0])) < chance)
        grids = tuple(
            torch.where(hit.view(-1, *[1] * (grid.dim() - 1)), operation(grid), grid)
            for grid in grids
        )
    return grids[0], grids[1].flatten(1), grids[2].flatten(1)


def _free_moves(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest (down, right) move of each image that leaves its shape in the picture."""
    low, high = [], []
    for image in images.numpy():
        values, counts = np.unique(image.reshape(3, -1).T, axis=0, return_counts=True)
        background = values[counts.argmax()]  # plain, and always the largest area
        other = (image != background[:, None, None]).any(0)
        spans = [np.flatnonzero(other.any(axis)) for axis in (1, 0)]
        low.append([-span[0] for span in spans])
        high.append([scenes.SIDE - 1 - span[-1] for span in spans])
    return np.array(low), np.array(high)
