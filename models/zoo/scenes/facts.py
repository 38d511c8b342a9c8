"""Say what is in a scene as bits and labels, for the auxiliary heads of the trainer.

Bits are of the whole picture ("there are at least two circles", "there is a small red square").
Labels are of each thing; the trainer lays them on the patches that the thing covers.
"""

from __future__ import annotations

import numpy as np

from edgevlm.models.zoo.scenes import questions, scenes

__all__ = ["BITS", "CLASSES", "ENDS", "GROUPS", "MOST", "PLACE", "bits", "labels", "owners"]

SHAPES, COLOURS, SIZES = questions.SHAPES, questions.COLOURS, questions.SIZES
MOST = 6  # things in a scene
GROUPS = (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES))
BITS = MOST * (1 + sum(len(v) for _, v in GROUPS)) + len(SHAPES) * len(COLOURS) * 2

#: class labels of a thing, with the number of classes; 0 is background
CLASSES = {
    "shape": 1 + len(SHAPES),
    "colour": 1 + len(COLOURS),
    "size": 1 + len(SIZES),
    "of_shape": 1 + MOST,  # how many things have its shape
    "of_colour": 1 + MOST,
    "of_size": 1 + MOST,
}
PLACE = 3  # cx and cy as shares of the side, and extent as a share of the largest one
ENDS = 6  # leftmost, rightmost, highest, lowest, smallest, largest
THIN = 1 / 16  # share of a patch that a thing must cover to own it
TRACE = 0.01  # share below which a patch is background


def bits(things: tuple[questions.Thing, ...]) -> np.ndarray:
    """[BITS] float32, 0 or 1."""
    counts = [len(things)]
    counts += [
        sum(getattr(t, name) == v for t in things) for name, values in GROUPS for v in values
    ]
    made = [float(count >= least) for count in counts for least in range(1, MOST + 1)]
    for size in (None, "small"):
        there = {(t.shape, t.colour) for t in things if size in (None, t.size)}
        made += [float((s, c) in there) for s in SHAPES for c in COLOURS]
    return np.array(made, np.float32)


def labels(things: tuple[questions.Thing, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Classes [7, 6] int64 and figures [7, PLACE + ENDS] float32; row 0 is background."""
    classes = np.zeros((1 + MOST, len(CLASSES)), np.int64)
    figures = np.zeros((1 + MOST, PLACE + ENDS), np.float32)
    side, largest = scenes.SIDE, scenes.EXTENT["large"][1] / 2
    x, y, extent = (np.array([getattr(t, n) for t in things]) for n in ("cx", "cy", "extent"))
    for i, t in enumerate(things):
        own = [1 + values.index(getattr(t, name)) for name, values in GROUPS]
        peers = [sum(getattr(o, name) == getattr(t, name) for o in things) for name, _ in GROUPS]
        classes[1 + i] = own + peers
        ends = (x.min() == t.cx, x.max() == t.cx, y.min() == t.cy, y.max() == t.cy)
        sizes = (extent.min() == t.extent, extent.max() == t.extent)
        figures[1 + i] = [t.cx / side, t.cy / side, t.extent / largest, *ends, *sizes]
    return classes, figures


def owners(scene: scenes.Scene, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """For each patch [grid, grid] the row of its thing in `labels` (-100: too little to tell),
    and whether the thing's centre is in it."""
    grid = scenes.SIDE // patch
    cover = scene.coverage.reshape(-1, grid, patch, grid, patch).mean((2, 4))
    amount = cover.max(0)
    owner = np.where(amount >= THIN, 1 + cover.argmax(0), np.where(amount > TRACE, -100, 0))
    centre = np.zeros((grid, grid), np.int64)
    for i, thing in enumerate(scene.things):
        at = int(thing.cy // patch), int(thing.cx // patch)
        owner[at], centre[at] = 1 + i, 1
    return owner.astype(np.int64), centre
