"""Easier questions, and easier pictures, of training alone: looking things up is learnt early.

Without them a model of this size sits at chance on every yes-no question for thousands of steps:
a right "no" says little about which patch to look at, the shape of the red thing says a lot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from edgevlm.models.zoo.scenes import questions
from edgevlm.models.zoo.scenes.questions import COLOURS, SHAPES, SIZES, Thing

__all__ = ["EASY", "practise"]

EASY = 2  # things on an easy picture, at most

NAMES = ("colour", "shape", "size")
WAYS = (("colour",), ("colour", "shape"), ("colour", "size"), ("size", "shape"), ("shape",))


def practise(
    rng: np.random.Generator, things: tuple[Thing, ...], count: int
) -> list[tuple[str, str]]:
    """`count` (question, answer) pairs; group, answer and question drawn as in `questions.ask`.

    Of easy scenes everything is asked, of the others what `questions.ask` never asks."""
    tree: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    usual = questions.every(rng, things) if len(things) <= EASY else ()
    for group, answer, question in (*_what(things), *_there(things), *usual):
        tree[group][answer].append(question)
    groups, rows = list(tree.values()), []
    for _ in range(count):
        answers = groups[int(rng.integers(len(groups)))]
        answer = sorted(answers)[int(rng.integers(len(answers)))]
        rows.append((answers[answer][int(rng.integers(len(answers[answer])))], answer))
    return rows


def _what(things: tuple[Thing, ...]) -> Iterator[tuple[str, str, str]]:
    """What shape, size or colour the only thing has that some words fit."""
    for way in WAYS:
        for thing in things:
            if sum(all(getattr(t, n) == getattr(thing, n) for n in way) for t in things) > 1:
                continue
            words = [getattr(thing, n) for n in sorted(way, key=("size", "colour", "shape").index)]
            noun = " ".join(words if "shape" in way else [*words, "object"])
            for asked in NAMES:
                if asked not in way:
                    yield f"{asked} by {way}", getattr(thing, asked), f"what {asked} is the {noun}?"


def _there(things: tuple[Thing, ...]) -> Iterator[tuple[str, str, str]]:
    """Whether anything has one property, and how many have two."""
    for colour in COLOURS:
        there = "yes" if any(t.colour == colour for t in things) else "no"
        yield "there", there, f"is there {'an' if colour == 'orange' else 'a'} {colour} object?"
        for shape in SHAPES:
            count = sum((t.colour, t.shape) == (colour, shape) for t in things)
            yield "pair", str(count), f"how many {colour} {shape}s are there?"
        for size in SIZES:
            count = sum((t.colour, t.size) == (colour, size) for t in things)
            yield "sized", str(count), f"how many {size} {colour} objects are there?"
