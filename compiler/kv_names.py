"""Names of caches that are state, for who writes them into a graph and who calls it."""

from __future__ import annotations

__all__ = ["CACHE_POSITION", "PAST", "PRESENT"]

CACHE_POSITION = "cache_position"  # int64 [1]: the row of the new token, where no token is missing
PAST, PRESENT = "past_", "present_"
