"""Read a small text file that a person wrote, or a stranger."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_small"]


def read_small(path: Path, most: int) -> str:
    """UTF-8 of `most` bytes at the most. Raises OSError, UnicodeDecodeError."""
    if path.exists() and not path.is_file():  # a pipe would block
        raise OSError("it is not a file")
    if path.stat().st_size > most:
        raise OSError(f"larger than {most} bytes")
    return path.read_text(encoding="utf-8")
