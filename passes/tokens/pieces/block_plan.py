"""How many rows of an attention merge where: all of it known when compiling.

    rows L    [in front | B blocks of D targets and S sources | behind], the same in every head
    left L'   [B x D means | in front, behind | B x (S - r) sources alone | O outliers]

A block is a run of neighbouring rows; its targets are evenly spread, its other rows are sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.passes.tokens.pieces.select import spread_index

__all__ = ["BlockPlan", "plan_blocks"]


@dataclass(frozen=True)
class BlockPlan:
    """Counts of one side, queries or keys, of one attention."""

    rows: int  # L
    start: int  # rows in front of the blocks
    blocks: int  # B
    size: int  # rows of a block, D + S
    targets: int  # D
    gone: int  # r of the S sources of a block merge
    back: int = 0  # O of the B x r return

    @property
    def sources(self) -> int:
        """S."""
        return self.size - self.targets

    @property
    def alone(self) -> int:
        """S - r."""
        return self.sources - self.gone

    @property
    def means(self) -> int:
        """B x D."""
        return self.blocks * self.targets

    @property
    def left(self) -> int:
        """L'."""
        return self.rows - self.blocks * self.gone + self.back

    @property
    def inner(self) -> np.ndarray:
        """int64 [B,D + S]: rows in blocks."""
        run = np.arange(self.blocks * self.size).reshape(self.blocks, self.size)
        return self.start + run

    @property
    def fixed(self) -> np.ndarray:
        """int64: rows in no block."""
        return np.setdiff1d(np.arange(self.rows), self.inner)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Places in a block of its targets (int64 [D]) and of its sources (int64 [S])."""
        targets = spread_index(self.size, self.targets)
        return targets, np.setdiff1d(np.arange(self.size), targets)


def plan_blocks(
    rows: int, start: int, count: int, *, block: int, share: float, targets: float, back: float = 0
) -> BlockPlan:
    """`count` rows from `start` on in blocks of equal size, at most `block`; what is over stays.

    share, targets: of a block; targets give way where share asks for more. back: of `count`.
    """
    blocks = -(-count // block)
    size = count // blocks
    gone = min(int(share * size + 0.5), size - 1)
    spread = max(1, min(int(targets * size + 0.5), size - gone))
    return BlockPlan(
        rows, start, blocks, size, spread, gone, min(int(back * count + 0.5), blocks * gone)
    )
