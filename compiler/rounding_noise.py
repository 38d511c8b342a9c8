"""How far a graph that rounds strays from itself when its inputs move in the last place.

Kernels add in other orders, so sums differ in the last places of float32, or of float16 where that
is what a part computes in. A number between two codes then falls to either side, a whole step
apart, and behind it more numbers do: through the twelve layers of a ViT-S with int8 activations
that is 22 to 44 dB, as the picture wants it. What an artifact may stray is therefore measured on
the graph, by the reference executor alone.

Who rounds rows in a way of its own (XNNPACK: with a zero point, where our graphs have none) gives
other numbers, as fine: the error of one and of the other add up between them. It is held to the
graph with nothing rounded, from which it may be no further than the graph itself is.
"""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds, PartCaller, ReferenceParts
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.without_rounding import without_rounding

__all__ = ["LEAST_DB", "ROUNDING_FLOOR_DB", "as_fine", "rounding_floor", "rounding_noise"]

#: relative; sums of some hundred float32 numbers in another order differ by about that much
MOVED = 1e-6
#: the same where every result is rounded to the 11 bits of float16
MOVED_HALF = 2.0**-11
TRIES = 3
#: dB; of parts that round activations: a number on the edge between two codes falls to either side,
#: and the difference is then one step of the grid
ROUNDING_FLOOR_DB = 25.0
#: dB; so much further than from itself may a part stray of which every sum moves, but not under
#: what would be another function
NOISE_MARGIN_DB, LEAST_DB = 6.0, 10.0
#: dB; two ways of rounding that are equally fine differ by chance
AS_FINE_DB = 3.0


class _Moved:
    """Whoever runs the parts, with every float input moved."""

    def __init__(self, parts: PartCaller, seed: int, by: float) -> None:
        self.parts, self.rng, self.by = parts, np.random.default_rng(seed), by

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        return self.parts.call(role, {name: self._near(x) for name, x in feeds.items()})

    def _near(self, x: np.ndarray) -> np.ndarray:
        if x.dtype not in (np.float32, np.float16):
            return x
        return (x * (1 + self.by * self.rng.standard_normal(x.shape))).astype(x.dtype)


def rounding_noise(parts: PartCaller, seen: Reference, role: Role, half: bool = False) -> float:
    """dB; the worst of some tries on everything the part was fed. half: it computes in float16."""
    by = MOVED_HALF if half else MOVED
    tries = (compare_parts(parts, _Moved(parts, seed, by), seen, [role]) for seed in range(TRIES))
    return min(found[role].sqnr_db for found in tries)


def rounding_floor(
    parts: PartCaller, seen: Reference, role: Role, floor: float, half: bool = False
) -> float:
    """dB that a part which rounds has to keep when its sums move; never above `floor`."""
    noise = rounding_noise(parts, seen, role, half)
    return min(floor, max(LEAST_DB, noise - NOISE_MARGIN_DB))


def as_fine(model: ExportedModel, parts: PartCaller, seen: Reference, role: Role) -> bool:
    """Whether `parts` stray from the unrounded part no further than the part of `model` does."""
    exact = ReferenceParts({role: without_rounding(model.parts[role])})
    graph, theirs = (
        compare_parts(exact, side, seen, [role])[role].sqnr_db
        for side in (ReferenceParts({role: model.parts[role]}), parts)
    )
    return theirs >= graph - AS_FINE_DB
