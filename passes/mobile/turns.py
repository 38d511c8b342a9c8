"""The fewest transposes of four axes that put runs of numbers into another order.

    0 1 2 3 4  ->  1 3 4 0 2        blocks 0 | 1 | 2 | 3 4, permutation 1, 3, 0, 2: one transpose

A transpose of four axes moves four blocks of neighbours; runs that stay together are one block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import combinations, pairwise, permutations
from operator import itemgetter

__all__ = ["MAX_AXES", "Order", "fewest"]

MAX_AXES = 4
Order = tuple[int, ...]


@lru_cache(maxsize=4096)
def fewest(order: Order) -> list[tuple[list[Order], Order]]:
    """The fewest transposes of at most four blocks that turn 0, 1, 2 ... into `order`.

    As (blocks, permutation) each; of equally many, such as leave the last run where it is. Searched
    from both ends, as what a transpose does another one undoes.
    """
    start = tuple(range(len(order)))
    ends: list[dict[Order, Order | None]] = [{start: None}, {order: None}]  # towards which end
    edges = [[start], [order]]
    while not (met := [at for at in ends[0] if at in ends[1]]):
        side = len(edges[0]) > len(edges[1])
        ahead = []
        for at in edges[side]:
            for turned in _turns(len(start)):
                then = turned(at)
                if then not in ends[side]:
                    ends[side][then] = at
                    ahead.append(then)
        edges[side] = ahead
    middle = min(met, key=lambda at: (at[-1:] != start[-1:]) + (at[-1:] != order[-1:]))
    path = [*_back(ends[0], middle)[::-1], *_back(ends[1], middle)[1:]]
    return [_turn(*pair) for pair in pairwise(path)]


def _back(came: dict[Order, Order | None], at: Order | None) -> list[Order]:
    """From a place to the end it was reached from."""
    found = []
    while at is not None:
        found.append(at)
        at = came[at]
    return found


def _turn(at: Order, wanted: Order) -> tuple[list[Order], Order]:
    """(blocks of `at`, permutation) of the one transpose between two orders."""
    turns = _turns(len(at))
    edges, perm = next(turns[turned] for turned in turns if turned(at) == wanted)
    return [at[a:b] for a, b in pairwise(edges)], perm


@lru_cache
def _turns(count: int) -> dict[Callable[[Order], Order], tuple[Order, Order]]:
    """Every transpose of up to four blocks of so many runs: what it does -> (edges, permutation).

    Those that leave the last block where it is come first.
    """
    found: dict[Order, tuple[Order, Order]] = {}
    blocks = min(MAX_AXES, count)
    perms = sorted(permutations(range(blocks)), key=lambda p: p[-1] != blocks - 1)
    for ends in combinations(range(1, count), blocks - 1):
        edges = (0, *ends, count)
        for perm in perms[1:]:
            lies = tuple(run for i in perm for run in range(edges[i], edges[i + 1]))
            found.setdefault(lies, (edges, perm))
    return {itemgetter(*lies): how for lies, how in found.items()}
