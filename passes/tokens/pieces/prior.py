"""What is known of places before a picture is seen: one number a place, from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgevlm.compiler.errors import UsageFault

__all__ = ["read_prior"]

MOST_BYTES = 8 * 2**20  # a million places in float64


def read_prior(path: str, count: int) -> np.ndarray:
    """float32 [count], min-maxed to 0..1; of equal numbers 0. Raises EV202 for another file."""
    file = Path(path)
    try:
        size = file.stat().st_size if file.is_file() else None
    except (OSError, ValueError) as error:
        raise _unfit(path, _told(error)) from error
    if size is None or size > MOST_BYTES:
        found = "there is no such file" if size is None else f"it has {size} bytes"
        raise _unfit(path, f"{found}; a file of at most {MOST_BYTES} bytes is read")
    try:
        # mapped, so a header that claims more than the file has is refused before any memory is had
        with np.errstate(over="ignore"):
            prior = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # of the parser that NumPy reads headers with: tokens, syntax, depth
        raise _unfit(path, _told(error)) from error
    if prior.shape != (count,) or prior.dtype.kind not in "fiu":
        raise _unfit(path, f"it holds {prior.dtype} {list(prior.shape)}, not {count} numbers")
    prior = prior.astype(np.float64)
    if not np.isfinite(prior).all():
        raise _unfit(path, "some of its numbers are not finite")
    prior = prior / (np.abs(prior).max(initial=0) or 1)  # or the span may be infinite
    span = np.ptp(prior)
    return ((prior - prior.min()) / (span if span > 0 else 1)).astype(np.float32)


def _unfit(path: str, why: str) -> UsageFault:
    return UsageFault(
        "EV202",
        f"prior {path[:200]}",
        why,
        "numpy.save('prior.npy', array) with one float for each image token of the grid",
    )


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
