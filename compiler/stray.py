"""Where two versions of a part first differ: the one line that makes a drift report useful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgevlm.compiler.drift import EXACT_DB, measure
from edgevlm.compiler.executor import Feeds, open_session
from edgevlm.compiler.narrow_cache import as_codes

__all__ = ["drift_by_value", "first_stray"]

TOGETHER = 16  # values inside a part that are held at once


def first_stray(
    before: ir.Model,
    after: ir.Model,
    feeds: Sequence[tuple[Feeds, Feeds]],
    floor: float,
    scales: Mapping[str, np.ndarray] | None = None,
) -> str:
    """The first node (in graph order) whose value, known by the same name, is under `floor` dB.

    All feeds (those of before, and of after) are tried: a node may stray on one picture only.
    scales: of the caches of `after`, where they became int8.
    """
    old = {str(v.name): v for n in before.graph for v in n.outputs if v.name and v.dtype}
    shared = [
        v
        for n in after.graph
        for v in n.outputs
        if (twin := old.get(str(v.name))) is not None
        and twin.shape == v.shape
        and v.dtype is not None
        and v.dtype.is_floating_point()
    ]
    if not shared:
        return "a value that has no name in both graphs"
    names = [str(v.name) for v in shared]
    sessions = (
        open_session(before, outputs=tuple(old[n] for n in names)),
        open_session(after, outputs=tuple(shared)),
    )
    first: tuple[int, float] | None = None
    for given, theirs in feeds:
        both = (dict(given), _typed(after, as_codes(theirs, scales or {})))
        want, got = (s.run(names, mine) for s, mine in zip(sessions, both, strict=True))
        for place, (a, b) in enumerate(zip(want, got, strict=True)):
            drift = measure(a, b, names[place])
            if drift.sqnr_db < floor:
                if first is None or place < first[0]:
                    first = place, drift.sqnr_db
                break
    if first is None:
        return "a value that has no name in both graphs"
    node = shared[first[0]].producer()
    return f"{node.name} ({node.op_type}), {first[1]:.1f} dB"


def drift_by_value(
    before: ir.Model,
    after: ir.Model,
    names: Sequence[str],
    feeds: Sequence[tuple[Feeds, Feeds]],
) -> dict[str, float]:
    """SQNR in dB of named values that both hold, over all inputs (those of before, and of after).

    Sums of squares are kept and no values, a few names at a time. -inf where one is not finite.
    """
    sides = [{str(v.name): v for n in part.graph for v in n.outputs} for part in (before, after)]
    found: dict[str, float] = {}
    for start in range(0, len(names), TOGETHER):
        some = [n for n in names[start : start + TOGETHER] if all(n in side for side in sides)]
        if not some:
            continue
        sessions = [
            open_session(part, outputs=tuple(side[n] for n in some))
            for part, side in zip((before, after), sides, strict=True)
        ]
        power = np.zeros((len(some), 2))
        for pair in feeds:
            typed = (_typed(part, fed) for part, fed in zip((before, after), pair, strict=True))
            runs = (s.run(some, fed) for s, fed in zip(sessions, typed, strict=True))
            for i, (a, b) in enumerate(zip(*runs, strict=True)):
                a, b = a.astype(np.float64), b.astype(np.float64)
                power[i] += np.square(a).sum(), np.square(a - b).sum()
        for name, (signal, noise) in zip(some, power, strict=True):
            found[name] = _decibel(signal, noise)
    return found


def _typed(part: ir.Model, feeds: Feeds) -> dict[str, np.ndarray]:
    """Float caches in the type that a part takes."""
    half = {str(v.name) for v in part.graph.inputs if v.dtype == ir.DataType.FLOAT16}
    return {name: x.astype(np.float16) if name in half else x for name, x in feeds.items()}


def _decibel(signal: float, noise: float) -> float:
    if not np.isfinite(noise) or (noise and not signal):
        return -np.inf
    return min(10 * float(np.log10(signal / noise)), EXACT_DB) if noise else EXACT_DB
