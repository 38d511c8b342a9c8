"""Budgets of groups (P8): whole numbers that sum to exactly K, shared out when compiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["quotas"]


def quotas(total: int, shares: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Whole numbers that sum to `total`, in proportion to `shares`, none above its size.

    By largest remainder, ties to the first. What a full group cannot take goes to the others, in
    proportion. 0 <= total <= sum of sizes; shares are 0 or more.
    """
    found = np.zeros(len(sizes), np.int64)
    room, weight = np.asarray(sizes, np.int64), np.asarray(shares, np.float64)
    while left := total - int(found.sum()):
        open_ = found < room
        part = np.where(open_, weight, 0)
        if not part.any():  # only groups without a share have room
            part = open_.astype(np.float64)
        exact = left * part / part.sum()
        grant = np.floor(exact).astype(np.int64)
        order = np.argsort(-(exact - grant), kind="stable")
        grant[[i for i in order if part[i]][: left - int(grant.sum())]] += 1
        found = np.minimum(found + grant, room)
    return found.tolist()
