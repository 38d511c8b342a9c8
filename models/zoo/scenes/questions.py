"""Ask questions with one right answer about the things of a scene; five kinds, alike in number.

Every question that a scene allows is listed, by group (a wording) and answer. Drawing goes the same
way down: kind, group, answer, question. So "yes" and "no", and the numbers, come as evenly as the
scene allows and a guess is worth little. What an eye could dispute is never asked: comparisons of
place and size have a margin. Needs numpy only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["COLOURS", "KINDS", "SHAPES", "SIZES", "Thing", "ask", "askable", "every", "kind"]

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "black")
SIZES = ("small", "medium", "large")
KINDS = ("colour", "comparison", "count", "existence", "position")
MIDDLE = 48.0  # px, of the picture
OFF_MIDDLE = 6.0  # px, that a thing must be from both middle lines to be in a quarter
ASIDE = 8.0  # px, between two centres, for one to be left of or above the other
FIRST_BY = 5.0  # px, by which an outermost thing leads the next one, centre and edge
LEAST = 4  # different questions of every kind that a scene must allow

Pair = tuple[str, str]
Entry = tuple[str, str, str]  # group, answer, question


@dataclass(frozen=True)
class Thing:
    """One drawn object; centre and extent (width and height) in px."""

    shape: str
    colour: str
    size: str
    cx: float
    cy: float
    extent: float


def ask(
    rng: np.random.Generator, things: tuple[Thing, ...], each: int
) -> list[tuple[str, str, str]]:
    """`each` different (kind, question, answer) of every kind, the kinds in turn."""
    rows: list[tuple[str, str, str]] = []
    for kind in KINDS:
        tree: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for group, answer, question in _MAKERS[kind](rng, things):
            tree[group][answer].append(question)
        found: dict[str, str] = {}
        while len(found) < each:
            answers = _pick(rng, list(tree.values()))
            answer = _pick(rng, sorted(answers))
            found[_pick(rng, answers[answer])] = answer
        rows += [(kind, question, answer) for question, answer in found.items()]
    return [rows[j * each + i] for i in range(each) for j in range(len(KINDS))]


def every(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    """All that can be asked about a scene, of every kind."""
    for make in _MAKERS.values():
        yield from make(rng, things)


def askable(things: tuple[Thing, ...]) -> bool:
    """Whether there are LEAST questions of every kind, however the things are called."""
    rng = np.random.Generator(np.random.PCG64(0))
    return all(len({q for _, _, q in make(rng, things)}) >= LEAST for make in _MAKERS.values())


def kind(question: str) -> str:
    """The kind of a question of ours, by its wording."""
    words = question.lower()
    if words.startswith("how many"):
        return "count"
    if words.startswith("what colour"):
        return "colour"
    if words.startswith("is there"):
        return "existence"
    if any(word in words for word in (" more ", " larger ", " smaller ")):
        return "comparison"
    return "position"


def _pick(rng: np.random.Generator, options: list) -> object:
    return options[int(rng.integers(len(options)))]


def _count(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    yield "all", str(len(things)), "how many objects are there?"
    for shape in SHAPES:
        count = sum(t.shape == shape for t in things)
        yield "shape", str(count), f"how many {shape}s are there?"
    for name, values in (("colour", COLOURS), ("size", SIZES)):
        for value in values:
            count = sum(getattr(t, name) == value for t in things)
            yield name, str(count), f"how many {value} objects are there?"


def _colour(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    for thing in things:
        if _alone(things, thing, "shape"):
            yield "named", thing.colour, f"what colour is the {thing.shape}?"
        if _alone(things, thing, "shape", "size"):
            yield "sized", thing.colour, f"what colour is the {thing.size} {thing.shape}?"
        if _alone(things, thing, "size") and thing.size != "medium":
            yield "sized", thing.colour, f"what colour is the {thing.size} object?"
    for word, thing in _outermost(things) if len(things) > 1 else ():
        yield "outermost", thing.colour, f"what colour is the {word} object?"


def _position(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    called = _called(rng, things, ("shape",), ("colour", "shape"), ("size", "shape"))
    for name, a in called:
        if abs(a.cx - MIDDLE) >= OFF_MIDDLE and abs(a.cy - MIDDLE) >= OFF_MIDDLE:
            down = "top" if a.cy < MIDDLE else "bottom"
            yield "quarter", f"{down} {'left' if a.cx < MIDDLE else 'right'}", f"where is {name}?"
        for other, b in called:
            for less, more, apart in (
                ("left of", "right of", b.cx - a.cx),
                ("above", "below", b.cy - a.cy),
            ):
                if abs(apart) >= ASIDE:
                    first = "yes" if apart > 0 else "no"
                    second = "no" if apart > 0 else "yes"
                    yield "beside", first, f"is {name} {less} {other}?"
                    yield "beside", second, f"is {name} {more} {other}?"


def _comparison(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    for group, values, ending in (("shape", SHAPES, "s"), ("colour", COLOURS, " objects")):
        count = Counter(getattr(t, group) for t in things)
        for a in values:
            for b in values:
                if a != b and count[a] + count[b]:
                    answer = "yes" if count[a] > count[b] else "no"
                    yield group, answer, f"are there more {a}{ending} than {b}{ending}?"
    called = _called(rng, things, ("shape",), ("colour", "shape"))
    for name, a in called:
        for other, b in called:
            if a.size != b.size:
                larger = SIZES.index(a.size) > SIZES.index(b.size)
                yield "size", "yes" if larger else "no", f"is {name} larger than {other}?"
                yield "size", "no" if larger else "yes", f"is {name} smaller than {other}?"


def _existence(rng: np.random.Generator, things: tuple[Thing, ...]) -> Iterator[Entry]:
    """Mostly of small things; the colours that are there make the hard ones."""
    there = {t.colour for t in things}
    for colour in COLOURS:
        mine = [t for t in things if t.colour == colour]
        answer = "yes" if any(t.size == "small" for t in mine) else "no"
        yield "colour", answer, f"is there a small {colour} object?"
        for shape in SHAPES:
            small = any(t.shape == shape and t.size == "small" for t in mine)
            groups = ("near", "near again", "any") if colour in there else ("any",)
            for group in groups:
                answer = "yes" if small else "no"
                yield group, answer, f"is there a small {colour} {shape}?"
            if colour in there:
                answer = "yes" if any(t.shape == shape for t in mine) else "no"
                yield "sizeless", answer, f"is there {_a(colour)} {shape}?"


def _called(
    rng: np.random.Generator, things: tuple[Thing, ...], *ways: tuple[str, ...]
) -> list[tuple[str, Thing]]:
    """Each thing that one of the ways singles out, called by one of those ways."""
    called = []
    for thing in things:
        able = [way for way in ways if _alone(things, thing, *way)]
        if able:
            way = _pick(rng, able)
            called.append(("the " + " ".join(getattr(thing, name) for name in way), thing))
    return called


def _alone(things: tuple[Thing, ...], thing: Thing, *names: str) -> bool:
    return not any(
        other is not thing and all(getattr(other, n) == getattr(thing, n) for n in names)
        for other in things
    )


def _outermost(things: tuple[Thing, ...]) -> Iterator[tuple[str, Thing]]:
    """Things that lead in one direction by centre and by edge; and the largest and the smallest."""
    for word, axis, sign in (
        ("leftmost", "cx", 1),
        ("rightmost", "cx", -1),
        ("highest", "cy", 1),
        ("lowest", "cy", -1),
    ):
        first, *others = sorted(things, key=lambda t: sign * getattr(t, axis))
        centre = min(sign * (getattr(t, axis) - getattr(first, axis)) for t in others)
        edge = min(_edge(t, axis, sign) for t in others) - _edge(first, axis, sign)
        if centre >= FIRST_BY and edge >= FIRST_BY:
            yield word, first
    order = sorted(things, key=lambda t: t.extent)
    for word, first, second in (
        ("smallest", order[0], order[1]),
        ("largest", order[-1], order[-2]),
    ):
        if first.size != second.size:
            yield word, first


def _edge(thing: Thing, axis: str, sign: int) -> float:
    return sign * getattr(thing, axis) - thing.extent / 2


def _a(colour: str) -> str:
    return f"an {colour}" if colour == "orange" else f"a {colour}"


_MAKERS = {
    "colour": _colour,
    "comparison": _comparison,
    "count": _count,
    "existence": _existence,
    "position": _position,
}
