"""How far a graph that rounds strays from itself when its inputs move in the last place.

Kernels add in other orders, so sums differ in the last places of float32. A number between two
codes then falls to either side, a whole step apart, and behind it more numbers do: through the
twelve layers of a ViT-S with int8 activations that is 22 to 44 dB, as the picture wants it. What an
artifact may stray is therefore measured on the graph, by the reference executor alone.
"""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.compiler.executor import Feeds, PartCaller
from edgevlm.compiler.reference import Reference
from edgevlm.compiler.verify import compare_parts

__all__ = ["rounding_noise"]

#: relative; sums of some hundred float32 numbers in another order differ by about that much
MOVED = 1e-6
TRIES = 3


class _Moved:
    """Whoever runs the parts, with every float input moved."""

    def __init__(self, parts: PartCaller, seed: int) -> None:
        self.parts, self.rng = parts, np.random.default_rng(seed)

    def call(self, role: Role, feeds: Feeds) -> dict[str, np.ndarray]:
        return self.parts.call(role, {name: self._near(x) for name, x in feeds.items()})

    def _near(self, x: np.ndarray) -> np.ndarray:
        if x.dtype != np.float32:
            return x
        return x * (1 + MOVED * self.rng.standard_normal(x.shape)).astype(np.float32)


def rounding_noise(parts: PartCaller, seen: Reference, role: Role) -> float:
    """dB; the worst of some tries on everything the part was fed."""
    tries = (compare_parts(parts, _Moved(parts, seed), seen, [role]) for seed in range(TRIES))
    return min(found[role].sqnr_db for found in tries)
