"""How fast two bundles are on this machine: the same requests turn about, a ratio for each stage.

A ratio is the time of B over that of A, the median over turns with its distribution-free 95 %
interval (`sweep_timing`). Fewer than six turns have no such interval, and nothing is claimed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from edgevlm.commands.profile_here import Once, Seconds, open_asked
from edgevlm.commands.sweep_timing import (
    TURN,
    first_token,
    profile_of,
    timed_in_turns,
    turn_medians,
)
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.profiler import STAGES
from edgevlm.devices.stats import middle
from edgevlm.models.processing.image import load_image
from edgevlm.runtimes import find_runtime

__all__ = ["LEAST", "Request", "accepted", "compare_speed", "open_once", "requests_of"]

TURNS = 6  # fewer have no interval of 95 %: all six above the median happens once in 32 times
LEAST = TURN * (TURNS - 1) + 1  # requests, so that there are as many turns

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """A picture, and a question; the empty one to a bundle without words."""

    image: Path
    question: str


def requests_of(a: Bundle, b: Bundle, image: Path | None, prompt: str | None) -> list[Request]:
    """The caller's own, or the goldens of both, each once."""
    if image is not None:
        return [Request(image, prompt or "")]
    found: dict[tuple[str, str], Request] = {}
    for bundle in (a, b):
        for golden in bundle.manifest.goldens:
            key = (bundle.manifest.files[golden.image].sha256, golden.question)
            found.setdefault(key, Request(bundle.folder / golden.image, golden.question))
    return list(found.values())


def open_once(bundle: Bundle) -> Once:
    """Raises EV302 (a runtime that is not here), EV304, EV322, EV434 (another machine's)."""
    find_runtime(bundle.manifest.target.runtime).check_timed(bundle)
    return open_asked(bundle)[0]


def accepted(
    requests: Sequence[Request],
    sides: Sequence[Once],
    advance: Advance = lambda done, total: None,
) -> list[Request]:
    """Those that both bundles answer. Raises EV411 where there are none, with what kept the last.

    A prompt may be longer than the other bundle was compiled for.
    """
    fit, fault = [], None
    for done, request in enumerate(requests, 1):
        try:
            for side in sides:
                side(load_image(request.image), request.question)
            fit.append(request)
        except UsageFault as error:
            fault = error
        advance(done, len(requests))
    if not fit:
        raise UsageFault(
            "EV411",
            "compare without a request that both bundles answer",
            f"{fault.what}: {fault.why}" if fault else "neither carries goldens to ask",
            "give one: --image PICTURE, and --prompt QUESTION where they answer any",
        ) from fault
    return fit


def compare_speed(
    sides: tuple[Once, Once],
    requests: Sequence[Request],
    *,
    n: int,
    warmup: int,
    advance: Advance = lambda done, total: None,
) -> dict[str, Any]:
    """The `speed` of the report: of every stage p50 of both, the ratio and what it says."""
    asked = [(load_image(r.image), r.question) for r in requests]

    def side(once: Once) -> Callable[[int], Seconds]:
        return lambda i: once(*asked[i % len(asked)])

    seen = timed_in_turns([side(once) for once in sides], n=n, warmup=warmup, advance=advance)
    p50 = [_p50(times, n, warmup) for times in seen]
    return {
        "stages": {
            stage: {
                "a_ms": p50[0][stage],
                "b_ms": p50[1][stage],
                **_ratio([_quotient(of, *pair) for pair in zip(*seen, strict=True)]),
                "how": "measured-host",
            }
            for stage, of in SECONDS.items()
            if all(stage in side for side in p50)
        },
        "requests": len(asked),
        "answer_tokens": {
            key: fmean(1 + len(times.get("decode", ())) for times in side)
            for key, side in zip("ab", seen, strict=True)
        }
        if "prefill" in seen[0][0]
        else None,
        "n": n,
        "warmup": warmup,
        "how": "measured-host",
    }


def _first(times: Mapping[str, Sequence[float]]) -> float | None:
    return first_token(times) if "prefill" in times else None


def _only(stage: str) -> Callable[[Seconds], float | None]:
    return lambda times: times[stage][0] if times.get(stage) else None


def _decode(times: Mapping[str, Sequence[float]]) -> float | None:
    """A token behind the first, the mean of a request: answers may be of other lengths."""
    return fmean(times["decode"]) if times.get("decode") else None


#: stage -> seconds of one request
SECONDS: dict[str, Callable[[Seconds], float | None]] = {
    "first_token": _first,
    **{
        stage: lambda times, stage=stage: next(iter(times.get(stage, ())), None) for stage in STAGES
    },
    "decode": _decode,
}


def _p50(times: Sequence[Seconds], n: int, warmup: int) -> dict[str, float]:
    """ms of every stage there was, as `profile` tells them."""
    found = profile_of(times, n, warmup)
    first = {} if found.ttft_ms is None else {"first_token": found.ttft_ms}
    return first | {stage: summary.p50_ms for stage, summary in found.stages.items()}


def _quotient(of: Callable[[Seconds], float | None], a: Seconds, b: Seconds) -> float | None:
    before, after = of(a), of(b)
    return None if before is None or after is None else after / before


def _ratio(pairs: Sequence[float | None]) -> dict[str, Any]:
    """Median, interval and verdict; without an interval where there are too few turns."""
    turns = turn_medians(pairs)
    timed = sum(pair is not None for pair in pairs)
    none = {"low": None, "high": None, "told_from": None, "verdict": "none", "n": timed}
    if not turns:
        return {"ratio": None, **none}
    found = middle(turns)
    if len(turns) < TURNS:
        return {"ratio": found.median, **none}
    told = "faster" if found.high < 1 else "slower" if found.low > 1 else "none"
    return {
        "ratio": found.median,
        "low": found.low,
        "high": found.high,
        # half of the interval, as a factor: what lies nearer to 1 it could not have told from 1
        "told_from": (found.high / found.low) ** 0.5 - 1,
        "verdict": told,
        "n": timed,
    }
