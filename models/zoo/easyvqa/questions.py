"""Ask and answer questions about a list of (shape, colour) objects, in easy-VQA's own words.

The templates are the 107 distinct training questions with the nouns taken out, plus the combined
noun ("red circle"), which only scenes of several objects make worth asking. Needs numpy only.
"""

from __future__ import annotations

import numpy as np

__all__ = ["COLOURS", "SHAPES", "ask", "kind", "named", "negated"]

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("blue", "brown", "red", "gray", "green", "black", "teal", "yellow")

EXISTS = (
    "is there a {}?",
    "is there a {} in the image?",
    "does the image contain a {}?",
    "is a {} present?",
)
EXISTS_NOT = (
    "is there not a {}?",
    "is there not a {} in the image?",
    "does the image not contain a {}?",
    "is no {} present?",
)
COLOUR_OF = ("what color is the {}?", "what is the color of the {}?")
SHAPE_OF = ("what is the {} shape?",)
SHAPE_ALONE = (
    "what shape is in the image?",
    "what shape is present?",
    "what shape does the image contain?",
)
WHAT_SHARE = 0.45  # of the questions asked are what-questions, where one is unambiguous

Pair = tuple[str, str]


def kind(answer: str) -> str:
    """The type a question is counted under: "yes-no", "shape" or "colour"."""
    return "yes-no" if answer in ("yes", "no") else "shape" if answer in SHAPES else "colour"


def ask(rng: np.random.Generator, things: list[Pair], count: int) -> list[Pair]:
    """`count` different (question, answer) pairs, each with exactly one right answer."""
    what = _what(things)
    rows: dict[str, str] = {}
    while len(rows) < count:
        if what and rng.random() < WHAT_SHARE:
            templates, noun, answer = what[rng.integers(len(what))]
            rows[str(rng.choice(templates)).format(noun)] = answer
        else:
            question, answer = _exists(rng, things)
            rows[question] = answer
    return list(rows.items())


def named(question: str) -> tuple[str | None, str | None]:
    """The shape and the colour that a question names, each None if it names none."""
    words = question.rstrip("?").lower().split()
    return (
        next((w for w in words if w in SHAPES), None),
        next((w for w in words if w in COLOURS), None),
    )


def negated(question: str) -> bool:
    """Whether "yes" means that the named thing is absent."""
    return not {"no", "not"}.isdisjoint(question.lower().split())


def _what(things: list[Pair]) -> list[tuple[tuple[str, ...], str, str]]:
    """(templates, noun, answer) of every what-question that has one answer here."""
    shapes, colours = [s for s, _ in things], [c for _, c in things]
    found = [(COLOUR_OF, s, c) for s, c in things if shapes.count(s) == 1]
    found += [(SHAPE_OF, c, s) for s, c in things if colours.count(c) == 1]
    if len(things) == 1:
        found += [(COLOUR_OF, "shape", colours[0]), (SHAPE_ALONE, "", shapes[0])]
    return found


def _exists(rng: np.random.Generator, things: list[Pair]) -> Pair:
    """A yes-no question; the named thing is there in half the cases."""
    shapes, colours = {s for s, _ in things}, {c for _, c in things}
    shape, colour = things[rng.integers(len(things))]
    about = rng.choice(("shape", "colour", "both"))
    there = bool(rng.random() < 0.5)
    if about == "shape":
        if not there and len(shapes) < len(SHAPES):
            shape = str(rng.choice([s for s in SHAPES if s not in shapes]))
        noun, truth = shape, shape in shapes
    elif about == "colour":
        if not there:
            colour = str(rng.choice([c for c in COLOURS if c not in colours]))
        noun, truth = f"{colour} shape", colour in colours
    else:
        if not there:
            shape, colour = _near_miss(rng, things)
        noun, truth = f"{colour} {shape}", (shape, colour) in things
    negative = bool(rng.random() < 0.5)
    template = str(rng.choice(EXISTS_NOT if negative else EXISTS))
    return template.format(noun), "yes" if truth != negative else "no"


def _near_miss(rng: np.random.Generator, things: list[Pair]) -> Pair:
    """A pair that is not there, if possible put together from a shape and a colour that are."""
    crossed = [(s, c) for s, _ in things for _, c in things if (s, c) not in things]
    if crossed and rng.random() < 0.6:
        return crossed[rng.integers(len(crossed))]
    shape, colour = things[rng.integers(len(things))]
    near = [(s, colour) for s in SHAPES] + [(shape, c) for c in COLOURS]
    near = [pair for pair in near if pair not in things]
    return near[rng.integers(len(near))]
