"""The digest of a file, read a piece at a time: weights and engines are larger than they look."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_digest"]


def file_digest(path: Path) -> str:
    """sha256, hex; empty where there is nothing that can be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(2**20), b""):
                found.update(block)
    except OSError:
        return ""
    return found.hexdigest()
