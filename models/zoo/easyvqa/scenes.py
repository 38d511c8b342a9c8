"""Draw our own labelled scenes, so that shapes can be learned without limit and positions matter.

easy-VQA shows one shape an image: a model can answer from any token that saw it. Scenes of two or
three shapes force the decoder to find the right image tokens. Needs numpy only, no torch.

A scene is a pure function of (split, index), so the three splits can never share one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.models.zoo.easyvqa import questions

__all__ = [
    "COLOUR_RGB",
    "EASY",
    "SIDE",
    "TRAIN",
    "VALIDATION",
    "Scene",
    "Thing",
    "easy_scenes",
    "make_scene",
    "patch_labels",
]

SIDE = 64  # px, of the square image
PATCH = 8  # px, side of the squares that `patch_labels` describes
TRAIN, VALIDATION, EASY = 0, 1, 2  # splits; EASY is the held-out set `easy-scenes`

# The exact values found in the easy-VQA training images.
COLOUR_RGB = {
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "red": (255, 0, 0),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "black": (0, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
PALE = (230, 256)  # background values a channel, as in easy-VQA
SIZE_ALONE = (6.5, 33.0)  # px, width or height of a lone shape
SIZE_IN_COMPANY = (8.0, 26.0)  # px, smaller so that three fit
GAP = 1.5  # px, at least, between two bounding boxes


@dataclass(frozen=True)
class Thing:
    """One drawn object; the box is centre and full size, in px."""

    shape: str
    colour: str
    cx: float
    cy: float
    width: float
    height: float


@dataclass(frozen=True)
class Scene:
    """A picture [64, 64, 3] uint8, what is on it, and how much of each pixel each thing covers."""

    image: np.ndarray
    things: tuple[Thing, ...]
    coverage: np.ndarray  # [things, 64, 64], 0..1


def make_scene(split: int, index: int, count: int | None = None) -> Scene:
    """Scene `index` of `split`, with `count` things (1 to 3, drawn if None)."""
    rng = np.random.default_rng((split, index))
    drawn = int(rng.choice((1, 2, 3), p=(0.3, 0.35, 0.35)))
    things = _place(rng, count or drawn)
    image = np.broadcast_to(rng.integers(*PALE, size=3).astype(np.float64), (SIDE, SIDE, 3))
    softness = rng.uniform(1.0, 1.7)  # px over which an edge fades
    coverage = np.stack([_coverage(thing, softness) for thing in things])
    for thing, cover in zip(things, coverage, strict=True):
        image = image + cover[..., None] * (np.array(COLOUR_RGB[thing.colour]) - image)
    return Scene(np.rint(image).astype(np.uint8), things, coverage)


def easy_scenes(count: int = 500, asked: int = 10) -> list[tuple[Scene, list[tuple[str, str]]]]:
    """The held-out set: scenes of one, two and three things in turn, each with its questions."""
    rng = np.random.default_rng((EASY, 2**31))
    scenes = (make_scene(EASY, i, count=1 + i % 3) for i in range(count))
    return [(s, questions.ask(rng, [(t.shape, t.colour) for t in s.things], asked)) for s in scenes]


def patch_labels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Shape and colour index of each patch, row by row: 0 background, -100 too little to tell."""
    grid = SIDE // PATCH
    cover = scene.coverage.reshape(-1, grid, PATCH, grid, PATCH).mean((2, 4))
    largest, amount = cover.argmax(0), cover.max(0)
    shapes = np.array([1 + questions.SHAPES.index(t.shape) for t in scene.things])
    colours = np.array([1 + questions.COLOURS.index(t.colour) for t in scene.things])

    def settle(labels: np.ndarray) -> np.ndarray:
        return np.where(amount >= 1 / 8, labels[largest], np.where(amount > 0.01, -100, 0))

    return settle(shapes).astype(np.int64), settle(colours).astype(np.int64)


def _place(rng: np.random.Generator, count: int) -> tuple[Thing, ...]:
    """Things of different (shape, colour) whose boxes neither touch nor leave the picture."""
    while True:
        things: list[Thing] = []
        for _ in range(40):
            thing = _draw_thing(rng, SIZE_ALONE if count == 1 else SIZE_IN_COMPANY)
            if all(_apart(thing, other) for other in things):
                things.append(thing)
            if len(things) == count:
                return tuple(things)


def _draw_thing(rng: np.random.Generator, size: tuple[float, float]) -> Thing:
    shape, colour = str(rng.choice(questions.SHAPES)), str(rng.choice(questions.COLOURS))
    width, height = rng.uniform(*size, size=2)
    if shape == "circle":
        height = width
    elif shape == "triangle":  # near equilateral
        height = width * 0.866 * rng.uniform(0.85, 1.15)
    else:
        height = float(np.clip(height, width / 4, width * 4))
    cx, cy = (rng.uniform(extent / 2, SIDE - extent / 2) for extent in (width, height))
    return Thing(shape, colour, float(cx), float(cy), float(width), float(height))


def _apart(a: Thing, b: Thing) -> bool:
    clear = (
        abs(a.cx - b.cx) > (a.width + b.width) / 2 + GAP
        or abs(a.cy - b.cy) > (a.height + b.height) / 2 + GAP
    )
    return clear and (a.shape, a.colour) != (b.shape, b.colour)


def _coverage(thing: Thing, softness: float) -> np.ndarray:
    """Share of each pixel inside the thing, from the signed distance to its outline in px."""
    centres = np.arange(SIDE) + 0.5
    x, y = centres[None, :] - thing.cx, centres[:, None] - thing.cy
    half_w, half_h = thing.width / 2, thing.height / 2
    if thing.shape == "circle":
        distance = np.hypot(x, y) - half_w
    elif thing.shape == "rectangle":
        distance = np.maximum(abs(x) - half_w, abs(y) - half_h)
    else:  # point up: the base, and two slanted sides mirrored by |x|
        slant = (abs(x) * thing.height - (y + half_h) * half_w) / np.hypot(thing.height, half_w)
        distance = np.maximum(slant, y - half_h)
    return np.clip(0.5 - distance / softness, 0.0, 1.0)
