"""Draw pictures of three to six shapes of very different sizes, and know what is in each.

Scene `index` of `split` is a function of these two numbers: integers drawn from PCG64, then float64
arithmetic of +, -, *, / and sqrt alone, all correctly rounded by IEEE 754. So the bytes do not hang
on the numpy build. Needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgevlm.models.zoo.scenes import questions

__all__ = [
    "COLOUR_RGB",
    "SIDE",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "Scene",
    "make_easy_scene",
    "make_scene",
    "mirrored",
]

SIDE = 96  # px, of the square image
TRAIN, VALIDATION, TEST = 0, 1, 2  # splits
COLOUR_RGB = {
    "red": (220, 30, 40),
    "orange": (245, 135, 20),
    "yellow": (240, 215, 30),
    "green": (30, 160, 60),
    "cyan": (40, 205, 215),
    "blue": (40, 70, 220),
    "purple": (150, 50, 180),
    "black": (25, 25, 25),
}
JITTER = 13  # values a channel, either way, around the colour's own
EXTENT = {"small": (14, 19), "medium": (26, 35), "large": (44, 57)}  # half px, the end excluded
LARGE_AT_MOST = 2  # so that six things find room
GAP = 3  # px, at least, between two bounding boxes; centres then never share an 8 px patch
MARGIN = 1  # px, between a bounding box and the edge of the picture
PALE = (205, 250)  # background values a channel
TILT = 14  # values by which the background rises or falls across the picture, at most


@dataclass(frozen=True)
class Scene:
    """A picture [96, 96, 3] uint8, what is on it, and how much of each pixel each thing covers."""

    image: np.ndarray
    things: tuple[questions.Thing, ...]
    coverage: np.ndarray  # [things, 96, 96] float32, 0..1


def make_scene(split: int, index: int) -> Scene:
    """Scene `index` of `split`; its things give at least three questions of every kind."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((split, index))))
    things = _place(rng)
    while not questions.askable(things):
        things = _place(rng)
    return _draw(rng, things)


def make_easy_scene(index: int, count: int) -> Scene:
    """A training picture of `count` things, of any size; too little is on it for every kind."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((TRAIN, index, count))))
    while True:
        sizes = [questions.SIZES[int(i)] for i in rng.integers(0, len(questions.SIZES), size=count)]
        palette = rng.permutation(len(questions.COLOURS))[:count]
        things = _fitted(rng, sorted(sizes, key=questions.SIZES.index, reverse=True), palette)
        if things:
            return _draw(rng, things)


def mirrored(things: tuple[questions.Thing, ...]) -> tuple[questions.Thing, ...]:
    """The things of the picture with left and right exchanged."""
    return tuple(replace(thing, cx=SIDE - thing.cx) for thing in things)


def _draw(rng: np.random.Generator, things: tuple[questions.Thing, ...]) -> Scene:
    across = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    tilt = rng.integers(-TILT, TILT + 1, size=2)
    slope = tilt[0] * across[None, :] + tilt[1] * across[:, None]
    image = rng.integers(*PALE, size=3)[None, None, :] + slope[..., None]
    softness = rng.integers(10, 17) / 10  # px over which an edge fades
    coverage = np.stack([_coverage(thing, softness) for thing in things])
    for thing, cover in zip(things, coverage, strict=True):
        colour = np.array(COLOUR_RGB[thing.colour]) + rng.integers(-JITTER, JITTER + 1, size=3)
        image = image + cover[..., None] * (colour - image)
    pixels = np.rint(np.minimum(np.maximum(image, 0), 255)).astype(np.uint8)
    return Scene(pixels, things, coverage.astype(np.float32))


def _place(rng: np.random.Generator) -> tuple[questions.Thing, ...]:
    """Three to six things, one at least small, of two to four colours, well apart."""
    while True:
        count = int(rng.integers(3, 7))
        palette = rng.permutation(len(questions.COLOURS))[: int(rng.integers(2, 5))]
        things = _fitted(rng, _sizes(rng, count), palette)
        if things:
            return things


def _fitted(
    rng: np.random.Generator, sizes: list[str], palette: np.ndarray
) -> tuple[questions.Thing, ...]:
    """A thing of each size, well apart; none where that was too hard."""
    things: list[questions.Thing] = []
    for size in sizes:
        for _ in range(40):
            thing = _draw_thing(rng, size, palette)
            if all(_apart(thing, other) for other in things):
                things.append(thing)
                break
        else:
            return ()
    return tuple(things)


def _sizes(rng: np.random.Generator, count: int) -> list[str]:
    """Large first, because they are hardest to place."""
    draws = rng.integers(0, 100, size=count - 1)
    large = min(int((draws >= 75).sum()), LARGE_AT_MOST)
    medium = int(((draws >= 40) & (draws < 75)).sum())
    return ["large"] * large + ["medium"] * medium + ["small"] * (count - large - medium)


def _draw_thing(rng: np.random.Generator, size: str, palette: np.ndarray) -> questions.Thing:
    extent = int(rng.integers(*EXTENT[size]))  # half px
    room = (MARGIN * 4 + extent, (SIDE - MARGIN) * 4 - extent + 1)  # quarter px
    cx, cy = (int(v) / 4 for v in rng.integers(*room, size=2))
    shape = questions.SHAPES[int(rng.integers(len(questions.SHAPES)))]
    colour = questions.COLOURS[int(palette[int(rng.integers(len(palette)))])]
    return questions.Thing(shape, colour, size, cx, cy, extent / 2)


def _apart(a: questions.Thing, b: questions.Thing) -> bool:
    return max(abs(a.cx - b.cx), abs(a.cy - b.cy)) >= (a.extent + b.extent) / 2 + GAP


def _coverage(thing: questions.Thing, softness: float) -> np.ndarray:
    """Share of each pixel inside the thing, from the signed distance to its outline in px."""
    centres = np.arange(SIDE) + 0.5
    x, y = centres[None, :] - thing.cx, centres[:, None] - thing.cy
    half = thing.extent / 2
    if thing.shape == "circle":
        distance = np.sqrt(x * x + y * y) - half
    elif thing.shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - half
    else:  # point up: the base, and two slanted sides of slope 2 mirrored by |x|
        distance = np.maximum((2 * np.abs(x) - (y + half)) / np.sqrt(5.0), y - half)
    return np.minimum(np.maximum(0.5 - distance / softness, 0.0), 1.0)
