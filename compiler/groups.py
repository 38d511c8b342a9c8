"""Things taken in order, as many together as may be held at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["groups_within"]

T = TypeVar("T")


def groups_within(most: int, things: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Groups of `most` at most, in what `size` counts; one that is larger is by itself."""
    group: list[T] = []
    held = 0
    for thing in things:
        one = size(thing)
        if group and held + one > most:
            yield group
            group, held = [], 0
        group.append(thing)
        held += one
    if group:
        yield group
