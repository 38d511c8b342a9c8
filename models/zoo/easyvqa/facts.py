"""Say what is in an image as a row of bits, for the auxiliary heads of the trainer.

A bit stands for "there is a circle", "there is something red" or "there is a red circle". Our own
scenes give all of them; of a real image its training questions give most.
"""

from __future__ import annotations

import torch

from edgevlm.models.zoo.easyvqa import questions

__all__ = ["COUNT", "UNKNOWN", "seen", "told"]

SHAPES, COLOURS = questions.SHAPES, questions.COLOURS
COUNT = len(SHAPES) + len(COLOURS) + len(SHAPES) * len(COLOURS)
UNKNOWN = -1.0  # a bit that the questions leave open
Pairs = list[tuple[str, str]]


def seen(things: Pairs) -> torch.Tensor:
    """All bits, from the (shape, colour) of everything in the image."""
    facts = torch.zeros(COUNT)
    for shape, colour in things:
        facts[[_fact(shape, None), _fact(None, colour), _fact(shape, colour)]] = 1.0
    return facts


def told(pairs: Pairs) -> torch.Tensor:
    """What a single-shape image's questions tell: everything, a part, or nothing."""
    facts = torch.full((COUNT,), UNKNOWN)
    shape = colour = None
    for question, answer in pairs:
        named_shape, named_colour = questions.named(question)
        if answer not in ("yes", "no"):  # a what-question's noun is there, and so is its answer
            shape = answer if answer in SHAPES else named_shape or shape
            colour = answer if answer in COLOURS else named_colour or colour
        elif (answer == "yes") != questions.negated(question):
            shape, colour = named_shape or shape, named_colour or colour
        else:
            facts[_fact(named_shape, named_colour)] = 0.0
    if shape and colour:
        return seen([(shape, colour)])
    for known, names in ((shape, SHAPES), (colour, COLOURS)):
        if known:
            start = 0 if names is SHAPES else len(SHAPES)
            facts[start : start + len(names)] = 0.0
            facts[start + names.index(known)] = 1.0
    return facts


def _fact(shape: str | None, colour: str | None) -> int:
    """Where the bit "there is a <colour> <shape>" stands, either of them perhaps unnamed."""
    if colour is None:
        return SHAPES.index(shape)
    if shape is None:
        return len(SHAPES) + COLOURS.index(colour)
    single = len(SHAPES) + len(COLOURS)
    return single + SHAPES.index(shape) * len(COLOURS) + COLOURS.index(colour)
