"""What each row of a part's inputs is: calibration leaves padding out and may weigh the others."""

from __future__ import annotations

import numpy as np

from edgevlm.compiler.contract import Role
from edgevlm.compiler.reference import Reference

__all__ = ["IMAGE", "PADDING", "TEXT", "counted", "kinds_of", "token_kinds"]

IMAGE, TEXT, PADDING = "image", "text", "padding"


def token_kinds(seen: Reference, role: Role, i: int) -> np.ndarray | None:
    """str [T] of prefill on input i; None where all rows of a part are alike."""
    if role != "prefill":
        return None
    contract, last = seen.contract, int(seen.feeds[i][role]["last_index"][0])
    kinds = np.full(contract.prefill_length, TEXT, "<U8")
    kinds[seen.starts[i] : seen.starts[i] + contract.kept_image_tokens] = IMAGE
    kinds[last + 1 :] = PADDING
    return kinds


def kinds_of(seen: Reference, role: Role) -> list[np.ndarray | None]:
    """`token_kinds` of every input that a part saw."""
    return [token_kinds(seen, role, i) for i in seen.runs(role)]


def counted(array: np.ndarray, kinds: np.ndarray | None, kind: str | None = None) -> np.ndarray:
    """Rows [T,m] of [...,m]: those of one kind, or all but padding.

    All rows where kinds are not known, or of another number, as behind a site of token reduction.
    """
    rows = array.reshape(-1, array.shape[-1])
    if kinds is None or len(kinds) != len(rows):
        return rows
    return rows[kinds != PADDING if kind is None else kinds == kind]
