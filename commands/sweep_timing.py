"""Time two models turn about, so that what the machine does meanwhile hits both alike.

A turn is a few requests to one model, then the same ones to the other; who goes first alternates.
The first request of a turn is not timed: it brings the model's weights back into the caches while
the other one's worker threads come to rest. Each pair of turns gives a ratio, the median over its
pairs of the same request; the result is the median over turns. A disturbance outlasts a request,
so that turns and not requests count as independent. Absolute times of different hours are not
comparable, these ratios are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgevlm.devices.profiler import Profile, profile
from edgevlm.devices.stats import Ratio, middle

__all__ = [
    "TURN",
    "first_token",
    "profile_of",
    "timed_in_turns",
    "turn_about",
    "turn_medians",
]

TURN = 5  # timed requests of one model in a row

Times = Mapping[str, Sequence[float]]
Ask = Callable[[int], Times]


def turn_about(
    ask: Ask,
    other: Ask | None,
    *,
    n: int,
    warmup: int,
    seconds: Callable[[Times], float] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Profile, Profile | None, Ratio | None]:
    """Profiles of both over `n` timed requests each, and the ratio of their times to first token.

    seconds: of a request, what the ratio is of, where it is something else.

    `ask(i)` runs request i and returns seconds by stage, as `devices.profiler` wants them. Without
    `other` one model is timed alone. Raises EV410 for a bad count.
    """
    models = [m for m in (ask, other) if m is not None]
    seen = timed_in_turns(models, n=n, warmup=warmup, advance=advance)
    profiles = [profile_of(times, n, warmup) for times in seen]
    if other is None:
        return profiles[0], None, None
    of = seconds or first_token
    pairs = [of(a) / of(b) for a, b in zip(*seen, strict=True)]
    return profiles[0], profiles[1], middle(turn_medians(pairs))


def timed_in_turns(
    models: Sequence[Ask],
    *,
    n: int,
    warmup: int,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[Times]]:
    """Of each model, the times of requests 0 to n - 1, asked turn about."""
    seen: list[list[Times]] = [[] for _ in models]
    total = len(models) * (max(n, 0) + max(warmup, 0))
    done = 0

    def count(requests: int) -> None:
        nonlocal done
        done += requests
        advance(done, total)

    for i in range(warmup):
        for model in models:
            model(i)
        count(len(models))
    for turn, start in enumerate(range(0, n, TURN)):
        places = range(start, min(n, start + TURN))
        for m in range(len(models)) if turn % 2 else reversed(range(len(models))):
            models[m](start)
            for i in places:
                seen[m].append(models[m](i))
            count(len(places))  # here, so that no drawing comes before a request that is timed
    return seen


def turn_medians(pairs: Sequence[float | None]) -> list[float]:
    """The median of each turn; a pair that is None was not timed, nor is a turn of such pairs."""
    turns = [pairs[start : start + TURN] for start in range(0, len(pairs), TURN)]
    timed = [[pair for pair in turn if pair is not None] for turn in turns]
    return [middle(turn).median for turn in timed if turn]


def first_token(times: Times) -> float:
    """Seconds from the picture to the first token of one request."""
    return sum(times[s][0] for s in ("preprocess", "vision", "connector", "prefill") if s in times)


def profile_of(times: Sequence[Times], n: int, warmup: int) -> Profile:
    """The profiler's own figures, from requests that have run."""
    return replace(profile(times.__getitem__, warmup=0, n=n), warmup=warmup)
